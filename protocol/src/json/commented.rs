//! JSON as people write it: with comments and trailing commas.

use serde_json::{Map, Value};

use super::strict::{checked_key, checked_string, duplicate_key};
use crate::limits;

/// Comments and trailing commas are removed by a parser that knows them; the checks of [`strict`] then run on what is left.
pub(super) fn commented(text: &str) -> Result<Value, String> {
    let options = jsonc_parser::ParseOptions {
        allow_comments: true,
        allow_trailing_commas: true,
        allow_loose_object_property_names: false,
        allow_missing_commas: false,
        allow_single_quoted_strings: false,
        allow_hexadecimal_numbers: false,
        allow_unary_plus_numbers: false,
        allow_bare_decimal_point_numbers: false,
        allow_extended_string_escapes: false,
        allow_non_finite_numbers: false,
    };
    if nesting(text) > limits::DEPTH {
        return Err(format!("nested deeper than {} levels", limits::DEPTH));
    }
    let tree = jsonc_parser::parse_to_ast(text, &jsonc_parser::CollectOptions::default(), &options)
        .map_err(|error| error.to_string())?;
    let root = tree.value.ok_or("the file holds no value")?;
    from_tree(&root)
}

fn from_tree(value: &jsonc_parser::ast::Value<'_>) -> Result<Value, String> {
    use jsonc_parser::ast::Value as Node;
    Ok(match value {
        Node::NullKeyword(_) => Value::Null,
        Node::BooleanLit(literal) => Value::Bool(literal.value),
        Node::NumberLit(literal) => {
            serde_json::from_str(literal.value).map_err(|_| format!("`{}` is not a number", literal.value))?
        }
        Node::StringLit(literal) => Value::String(checked_string(&literal.value)?.to_owned()),
        Node::Array(array) => Value::Array(array.elements.iter().map(from_tree).collect::<Result<_, _>>()?),
        Node::Object(object) => {
            let mut map = Map::new();
            for property in &object.properties {
                let key = checked_key(property.name.as_str())?;
                if map.insert(key.to_owned(), from_tree(&property.value)?).is_some() {
                    return Err(duplicate_key(key));
                }
            }
            Value::Object(map)
        }
    })
}

/// The deepest nesting of brackets outside strings and comments; an upper bound, computed without recursion.
fn nesting(text: &str) -> usize {
    let (mut depth, mut deepest, mut in_string, mut escaped) = (0_usize, 0, false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'[' | b'{' if !in_string => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b']' | b'}' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}
