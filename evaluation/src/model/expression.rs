//! Arithmetic over hyperparameters, such as `16 * 2 ^ stage` or `$width // 2 if $small else $width`.
//!
//! | form | meaning |
//! | --- | --- |
//! | `$name`, `${any name}` | a hyperparameter |
//! | `name` | a variable: the number of the repetition inside a repeated group, from 0 |
//! | `1.5e-3`, `'text'`, `true`, `false` | constants |
//! | `a if c else b`, `or`, `and`, `not` | as in Python; only the branch that is taken is computed |
//! | `==`, `!=`, `<`, `<=`, `>`, `>=` | comparisons; texts can be equal or not |
//! | `+`, `-`, `*`, `/`, `//`, `%`, `^` | `//` and `%` round down; `^` is the power, from the right |
//! | `min`, `max`, `round`, `floor`, `ceil`, `abs`, `sqrt`, `exp`, `log`, `log2` | functions |

use serde_json::{Number, Value};

/// Longer ones are surely no formula.
const LONGEST: usize = 500;

/// Bounds the parser's recursion.
const DEEPEST: usize = 32;

/// A parsed expression.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Expression(Node);

#[derive(Debug, Clone, PartialEq)]
enum Node {
    Constant(Value),
    Hyperparameter(String),
    Variable(String),
    Unary(char, Box<Node>),
    Binary(&'static str, Box<Node>, Box<Node>),
    Choice(Box<[Node; 3]>),
    Call(&'static str, Vec<Node>),
}

/// Functions with the number of their arguments; none for one or more.
const FUNCTIONS: [(&str, Option<usize>); 10] = [
    ("min", None),
    ("max", None),
    ("round", Some(1)),
    ("floor", Some(1)),
    ("ceil", Some(1)),
    ("abs", Some(1)),
    ("sqrt", Some(1)),
    ("exp", Some(1)),
    ("log", Some(1)),
    ("log2", Some(1)),
];

/// Binary operators from loose to tight, but for the power.
const LEVELS: [&[&str]; 5] = [
    &["or"],
    &["and"],
    &["==", "!=", "<=", ">=", "<", ">"],
    &["+", "-"],
    &["*", "//", "/", "%"],
];

/// Level of `not`: looser than comparisons.
const NOT: usize = 2;

/// Where names get their values.
pub(crate) trait Names {
    /// A hyperparameter's value; the error is a message in words.
    fn hyperparameter(&self, name: &str) -> Result<Value, String>;

    /// A variable's value.
    fn variable(&self, name: &str) -> Result<f64, String>;
}

impl Expression {
    /// Parses the text behind the `=`; the error is a message in words.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        if text.chars().count() > LONGEST {
            return Err(format!("is an expression of more than {LONGEST} characters"));
        }
        let mut parser = Parser { text, at: 0, depth: 0 };
        let node = parser.choice()?;
        parser.space();
        if parser.at < text.len() {
            return Err(parser.expected("an operator or the end"));
        }
        Ok(Self(node))
    }

    /// Adds the hyperparameters that occur anywhere.
    pub(crate) fn hyperparameters(&self, names: &mut Vec<String>) {
        fn walk(node: &Node, names: &mut Vec<String>) {
            match node {
                Node::Hyperparameter(name) => names.push(name.clone()),
                Node::Constant(_) | Node::Variable(_) => {}
                Node::Unary(_, a) => walk(a, names),
                Node::Binary(_, a, b) => {
                    walk(a, names);
                    walk(b, names);
                }
                Node::Choice(parts) => parts.iter().for_each(|part| walk(part, names)),
                Node::Call(_, arguments) => arguments.iter().for_each(|argument| walk(argument, names)),
            }
        }
        walk(&self.0, names);
    }

    /// Computes the value; the error is a message in words.
    pub(crate) fn value(&self, names: &dyn Names) -> Result<Value, String> {
        compute(&self.0, names)
    }
}

fn compute(node: &Node, names: &dyn Names) -> Result<Value, String> {
    match node {
        Node::Constant(value) => Ok(value.clone()),
        Node::Hyperparameter(name) => names.hyperparameter(name),
        Node::Variable(name) => names.variable(name).and_then(number),
        Node::Unary('-', a) => number(-operand(&compute(a, names)?)?),
        Node::Unary(_, a) => Ok(Value::Bool(!truth(&compute(a, names)?)?)),
        Node::Binary("or", a, b) => Ok(Value::Bool(truth(&compute(a, names)?)? || truth(&compute(b, names)?)?)),
        Node::Binary("and", a, b) => Ok(Value::Bool(truth(&compute(a, names)?)? && truth(&compute(b, names)?)?)),
        Node::Binary(operator, a, b) => binary(operator, &compute(a, names)?, &compute(b, names)?),
        Node::Choice(parts) => {
            let [yes, condition, no] = parts.as_ref();
            let is_true = truth(&compute(condition, names)?)?;
            compute(if is_true { yes } else { no }, names)
        }
        Node::Call(function, arguments) => {
            let numbers: Vec<f64> = arguments
                .iter()
                .map(|argument| operand(&compute(argument, names)?))
                .collect::<Result<_, _>>()?;
            call(function, &numbers)
        }
    }
}

fn binary(operator: &str, a: &Value, b: &Value) -> Result<Value, String> {
    if matches!(operator, "==" | "!=") {
        let equal = match (a.as_f64(), b.as_f64()) {
            (Some(a), Some(b)) => (a - b).abs() <= 0.0,
            _ => a == b,
        };
        return Ok(Value::Bool(equal == (operator == "==")));
    }
    let (a, b) = (operand(a)?, operand(b)?);
    if matches!(operator, "/" | "//" | "%") && b.abs() <= 0.0 {
        return Err("divides by zero".into());
    }
    match operator {
        "<" => Ok(Value::Bool(a < b)),
        "<=" => Ok(Value::Bool(a <= b)),
        ">" => Ok(Value::Bool(a > b)),
        ">=" => Ok(Value::Bool(a >= b)),
        "+" => number(a + b),
        "-" => number(a - b),
        "*" => number(a * b),
        "/" => number(a / b),
        "//" => number((a / b).floor()),
        "%" => number(a - b * (a / b).floor()),
        _ => number(libm::pow(a, b)),
    }
}

fn call(function: &str, arguments: &[f64]) -> Result<Value, String> {
    let first = arguments[0];
    number(match function {
        "min" => arguments.iter().copied().fold(first, f64::min),
        "max" => arguments.iter().copied().fold(first, f64::max),
        "round" => first.round(),
        "floor" => first.floor(),
        "ceil" => first.ceil(),
        "abs" => first.abs(),
        "sqrt" => first.sqrt(),
        "exp" => libm::exp(first),
        "log" => libm::log(first),
        _ => libm::log2(first),
    })
}

/// Whole numbers become integers, so that they can be sizes.
fn number(value: f64) -> Result<Value, String> {
    if value.fract() == 0.0 && value.abs() < 9e15 {
        return Ok(Value::from(value as i64));
    }
    Number::from_f64(value)
        .map(Value::Number)
        .ok_or_else(|| format!("has the value {value}, expected a finite number"))
}

fn operand(value: &Value) -> Result<f64, String> {
    value
        .as_f64()
        .ok_or_else(|| format!("computes with `{value}`, expected a number"))
}

fn truth(value: &Value) -> Result<bool, String> {
    value
        .as_bool()
        .ok_or_else(|| format!("takes `{value}` for a condition, expected true or false"))
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
}

impl Parser<'_> {
    fn choice(&mut self) -> Result<Node, String> {
        self.deeper(|parser| {
            let yes = parser.level(0)?;
            if !parser.word("if") {
                return Ok(yes);
            }
            let condition = parser.level(0)?;
            if !parser.word("else") {
                return Err(parser.expected("`else`"));
            }
            Ok(Node::Choice(Box::new([yes, condition, parser.choice()?])))
        })
    }

    fn deeper(&mut self, parse: impl FnOnce(&mut Self) -> Result<Node, String>) -> Result<Node, String> {
        if self.depth == DEEPEST {
            return Err(format!("is nested more than {DEEPEST} levels deep"));
        }
        self.depth += 1;
        let node = parse(self);
        self.depth -= 1;
        node
    }

    fn level(&mut self, level: usize) -> Result<Node, String> {
        let Some(operators) = LEVELS.get(level) else {
            return self.sign();
        };
        if level == NOT && self.word("not") {
            let negated = self.deeper(|parser| parser.level(NOT))?;
            return Ok(Node::Unary('!', Box::new(negated)));
        }
        let mut left = self.level(level + 1)?;
        while let Some(operator) = self.operator(operators) {
            let right = self.level(level + 1)?;
            left = Node::Binary(operator, Box::new(left), Box::new(right));
        }
        Ok(left)
    }

    fn sign(&mut self) -> Result<Node, String> {
        if self.symbol("-") {
            let opposite = self.deeper(Self::sign)?;
            return Ok(Node::Unary('-', Box::new(opposite)));
        }
        let base = self.atom()?;
        if self.symbol("^") {
            let power = self.deeper(Self::sign)?;
            return Ok(Node::Binary("^", Box::new(base), Box::new(power)));
        }
        Ok(base)
    }

    fn atom(&mut self) -> Result<Node, String> {
        self.space();
        let rest = &self.text[self.at..];
        let first = rest.chars().next().unwrap_or(' ');
        if first == '(' {
            self.at += 1;
            let inner = self.choice()?;
            return if self.symbol(")") {
                Ok(inner)
            } else {
                Err(self.expected("`)`"))
            };
        }
        if first == '\'' {
            let end = rest[1..]
                .find('\'')
                .ok_or_else(|| "has a text without its closing `'`".to_owned())?;
            self.at += end + 2;
            return Ok(Node::Constant(Value::from(&rest[1..=end])));
        }
        if let Some(named) = rest.strip_prefix("${") {
            let end = named.find('}').ok_or_else(|| "has a `${` without its `}`".to_owned())?;
            self.at += end + 3;
            return Ok(Node::Hyperparameter(named[..end].to_owned()));
        }
        if first == '$' {
            self.at += 1;
            let name = self.name();
            return if name.is_empty() {
                Err(self.expected("the name of a hyperparameter"))
            } else {
                Ok(Node::Hyperparameter(name))
            };
        }
        if first.is_ascii_digit() || first == '.' {
            return self.constant();
        }
        if first.is_alphabetic() || first == '_' {
            let name = self.name();
            return self.named(name);
        }
        Err(self.expected("a number, a name or `(`"))
    }

    fn constant(&mut self) -> Result<Node, String> {
        let rest = &self.text[self.at..];
        let mut end = 0;
        let mut before = ' ';
        for (at, letter) in rest.char_indices() {
            let is_part = letter.is_ascii_digit()
                || matches!(letter, '.' | 'e' | 'E')
                || (matches!(letter, '+' | '-') && matches!(before, 'e' | 'E'));
            if !is_part {
                break;
            }
            before = letter;
            end = at + letter.len_utf8();
        }
        let parsed = rest[..end].parse::<f64>().ok().and_then(|value| number(value).ok());
        let value = parsed.ok_or_else(|| format!("has `{}`, expected a number", &rest[..end]))?;
        self.at += end;
        Ok(Node::Constant(value))
    }

    fn named(&mut self, name: String) -> Result<Node, String> {
        match name.as_str() {
            "true" | "false" => return Ok(Node::Constant(Value::Bool(name == "true"))),
            _ => {}
        }
        if !self.symbol("(") {
            return Ok(Node::Variable(name));
        }
        let Some((function, count)) = FUNCTIONS.into_iter().find(|(function, _)| *function == name) else {
            let names = FUNCTIONS.map(|(name, _)| name);
            return Err(format!("calls `{name}`; there are {}", names.join(", ")));
        };
        let mut arguments = vec![self.choice()?];
        while self.symbol(",") {
            arguments.push(self.choice()?);
        }
        if !self.symbol(")") {
            return Err(self.expected("`,` or `)`"));
        }
        if count.is_some_and(|count| count != arguments.len()) {
            return Err(format!(
                "calls `{function}` with {} arguments, expected 1",
                arguments.len()
            ));
        }
        Ok(Node::Call(function, arguments))
    }

    fn name(&mut self) -> String {
        let rest = &self.text[self.at..];
        let end = rest
            .find(|letter: char| !letter.is_alphanumeric() && letter != '_' && letter != '.')
            .unwrap_or(rest.len());
        self.at += end;
        rest[..end].to_owned()
    }

    fn operator(&mut self, operators: &[&'static str]) -> Option<&'static str> {
        operators.iter().copied().find(|operator| {
            if operator.chars().all(char::is_alphabetic) {
                self.word(operator)
            } else {
                self.symbol(operator)
            }
        })
    }

    fn word(&mut self, word: &str) -> bool {
        self.space();
        let found = self.text[self.at..].strip_prefix(word);
        let is_whole =
            found.is_some_and(|rest| !rest.starts_with(|letter: char| letter.is_alphanumeric() || letter == '_'));
        if is_whole {
            self.at += word.len();
        }
        is_whole
    }

    fn symbol(&mut self, symbol: &str) -> bool {
        self.space();
        let found = self.text[self.at..].starts_with(symbol);
        if found {
            self.at += symbol.len();
        }
        found
    }

    fn space(&mut self) {
        let rest = &self.text[self.at..];
        self.at += rest.len() - rest.trim_start().len();
    }

    fn expected(&self, what: &str) -> String {
        let rest: String = self.text[self.at..].chars().take(20).collect();
        if rest.trim().is_empty() {
            format!("ends where {what} is expected")
        } else {
            format!("has `{}` where {what} is expected", rest.trim())
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    struct Point;

    impl Names for Point {
        fn hyperparameter(&self, name: &str) -> Result<Value, String> {
            match name {
                "units" => Ok(json!(64)),
                "rate" => Ok(json!(0.5)),
                "kind" | "a b" => Ok(json!("wide")),
                "deep" => Ok(json!(true)),
                _ => Err(format!("no `{name}`")),
            }
        }

        fn variable(&self, name: &str) -> Result<f64, String> {
            if name == "stage" {
                Ok(3.0)
            } else {
                Err(format!("no `{name}`"))
            }
        }
    }

    fn value(text: &str) -> Result<Value, String> {
        Expression::parse(text)?.value(&Point)
    }

    #[test]
    fn arithmetic_follows_the_usual_rules() {
        for (text, expected) in [
            ("1 + 2 * 3", json!(7)),
            ("(1 + 2) * 3", json!(9)),
            ("2 ^ 3 ^ 2", json!(512)),
            ("-2 ^ 2", json!(-4)),
            ("7 // 2 + 7 % 2 - 8 / 4", json!(2)),
            ("-7 // 2", json!(-4)),
            ("-7 % 3", json!(2)),
            ("10 - 3 - 2", json!(5)),
            ("1.5e-1 + .5", json!(0.65)),
            ("$units * 2 ^ stage", json!(512)),
            ("$units*$rate", json!(32)),
            ("round($units / 24) * 8", json!(24)),
            ("max(1, $units // 100, 2) + min(3, 4) + log2(8)", json!(8)),
            ("sqrt(2) > 1.4 and not $deep or false", json!(false)),
            ("not 1 == 2", json!(true)),
            ("$units if $kind == 'wide' else 1 if true else 2", json!(64)),
            ("$missing if ${a b} != 'wide' else 'narrow'", json!("narrow")),
            ("$kind", json!("wide")),
        ] {
            assert_eq!(value(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn mistakes_are_explained() {
        for (text, expected) in [
            ("", "ends where a number, a name or `(` is expected"),
            ("2 * ", "ends where a number, a name or `(` is expected"),
            ("2 3", "has `3` where an operator or the end is expected"),
            ("(1 + 2", "ends where `)` is expected"),
            ("1 if true", "ends where `else` is expected"),
            (
                "sin(1)",
                "calls `sin`; there are min, max, round, floor, ceil, abs, sqrt, exp, log, log2",
            ),
            ("sqrt(1, 2)", "calls `sqrt` with 2 arguments, expected 1"),
            ("1 / (2 - 2)", "divides by zero"),
            ("log(0)", "has the value -inf, expected a finite number"),
            ("$kind + 1", "computes with `\"wide\"`, expected a number"),
            ("1 and true", "takes `1` for a condition, expected true or false"),
            ("1.2.3", "has `1.2.3`, expected a number"),
            ("'a", "has a text without its closing `'`"),
            ("${a", "has a `${` without its `}`"),
            ("$ + 1", "has `+ 1` where the name of a hyperparameter is expected"),
            ("ä + €", "has `€` where a number, a name or `(` is expected"),
            ("index", "no `index`"),
        ] {
            assert_eq!(value(text), Err(expected.to_owned()), "{text}");
        }
        assert!(value(&"(".repeat(501)).unwrap_err().contains("more than 500"));
        for deep in ["(", "-", "not ", "2^", "1 if true else "] {
            let error = value(&deep.repeat(33)).unwrap_err();
            assert_eq!(error, "is nested more than 32 levels deep", "{deep}");
        }
    }

    #[test]
    fn names_are_found_in_branches_that_are_not_taken() {
        let mut names = Vec::new();
        let expression = Expression::parse("max($a, 1) if not $b else -$c + stage").unwrap();
        expression.hyperparameters(&mut names);
        assert_eq!(names, ["a", "b", "c"]);
    }
}
