//! Vectors for classes, columns and positions.

use super::{Layout, Start, Writer, Written};
use crate::graph::{ElementType, Elements, Tensor, attribute};

impl Writer {
    /// Weights are normal with the standard deviation `1/√width`.
    pub(super) fn embedding(&mut self, name: &str, vocabulary: usize, width: usize) -> Written {
        let [length] = self.shape[..] else {
            return Err(format!(
                "needs rows that are lists of numbers of classes, found shape {:?}",
                self.shape
            ));
        };
        let start = Start::Normal(1.0 / (width as f64).sqrt());
        let table = self.weight(&format!("{name}.weight"), &[vocabulary, width], start);
        let current = self.current.clone();
        let indices = self.integers(&format!("{name}.indices"), &current);
        self.current = self.apply(name, "Gather", &[&table, &indices], vec![attribute::int("axis", 0)]);
        self.shape = vec![length, width];
        self.layout = Layout::Sequence;
        Ok(())
    }

    /// A number `x` becomes `x w + b`, a class a row of a table; all weights are uniform in `±1/√width`.
    pub(super) fn feature_tokens(
        &mut self,
        name: &str,
        width: usize,
        categorical: &[(usize, usize)],
        class_token: bool,
    ) -> Written {
        let [columns] = self.shape[..] else {
            return Err(format!(
                "needs rows that are vectors of columns, found shape {:?}",
                self.shape
            ));
        };
        if let Some((column, _)) = categorical.iter().find(|(column, _)| *column >= columns) {
            return Err(format!(
                "`categorical` names column {column}, there are {columns}, counted from 0"
            ));
        }
        let start = Start::Uniform(1.0 / (width as f64).sqrt());
        let input = self.current.clone();
        let mut tokens = Vec::new();
        if class_token {
            let token = self.weight(&format!("{name}.class_token"), &[1, 1, width], start);
            // As many as the batch has rows.
            let rows = self.apply(
                &format!("{name}.rows"),
                "Shape",
                &[&input],
                vec![attribute::int("start", 0), attribute::int("end", 1)],
            );
            let rest = self.constant(format!("{name}.class_shape"), Tensor::ints(vec![1, width as i64]));
            let shape = vec![attribute::int("axis", 0)];
            let shape = self.apply(&format!("{name}.class_rows"), "Concat", &[&rows, &rest], shape);
            tokens.push(self.apply(&format!("{name}.class"), "Expand", &[&token, &shape], Vec::new()));
        }
        let numbers: Vec<i64> = (0..columns)
            .filter(|column| categorical.iter().all(|(other, _)| other != column))
            .map(|column| column as i64)
            .collect();
        if !numbers.is_empty() {
            let count = numbers.len();
            let weight = self.weight(&format!("{name}.weight"), &[count, width], start);
            let bias = self.weight(&format!("{name}.bias"), &[count, width], start);
            let values = self.columns(&format!("{name}.numbers"), &input, numbers);
            let axis = self.constant(format!("{name}.axis"), Tensor::ints(vec![2]));
            let column = self.apply(&format!("{name}.column"), "Unsqueeze", &[&values, &axis], Vec::new());
            let scaled = self.apply(&format!("{name}.scaled"), "Mul", &[&column, &weight], Vec::new());
            tokens.push(self.apply(&format!("{name}.shifted"), "Add", &[&scaled, &bias], Vec::new()));
        }
        if !categorical.is_empty() {
            // One table for all columns, each beginning where the one before ends.
            let mut total = 0;
            let mut offsets = Vec::new();
            for (_, classes) in categorical {
                offsets.push(total);
                total += *classes as i64;
            }
            let table = self.weight(&format!("{name}.classes"), &[total as usize, width], start);
            let positions = categorical.iter().map(|(column, _)| *column as i64).collect();
            let values = self.columns(&format!("{name}.categories"), &input, positions);
            let indices = self.integers(&format!("{name}.category_indices"), &values);
            let offsets = self.constant(format!("{name}.offsets"), Tensor::ints(offsets));
            let rows = self.apply(&format!("{name}.table_rows"), "Add", &[&indices, &offsets], Vec::new());
            let axis = vec![attribute::int("axis", 0)];
            tokens.push(self.apply(&format!("{name}.embedded"), "Gather", &[&table, &rows], axis));
        }
        self.current = match &tokens[..] {
            [only] => only.clone(),
            tokens => {
                let tokens: Vec<&str> = tokens.iter().map(String::as_str).collect();
                self.apply(name, "Concat", &tokens, vec![attribute::int("axis", 1)])
            }
        };
        self.shape = vec![columns + usize::from(class_token), width];
        self.layout = Layout::Sequence;
        Ok(())
    }

    /// Trainable ones are normal with a standard deviation of 0.02.
    pub(super) fn positions(&mut self, name: &str, learned: bool) -> Written {
        let [length, features] = self.sequence()?;
        let table = if learned {
            self.weight(&format!("{name}.weight"), &[length, features], Start::Normal(0.02))
        } else {
            let values = (0..length * features)
                .map(|at| {
                    let (position, feature) = ((at / features) as f64, at % features);
                    let angle = position / libm::pow(1e4, (feature - feature % 2) as f64 / features as f64);
                    if feature % 2 == 0 {
                        libm::sin(angle)
                    } else {
                        libm::cos(angle)
                    }
                })
                .collect();
            // In double precision, so that it is not taken for a weight.
            let table = self.constant(
                format!("{name}.table"),
                Tensor::new([length, features], Elements::F64(values)),
            );
            let to = vec![attribute::int("to", i64::from(ElementType::F32.code()))];
            self.apply(&format!("{name}.cast"), "Cast", &[&table], to)
        };
        self.node(name, "Add", &[&table], Vec::new());
        Ok(())
    }

    fn columns(&mut self, name: &str, input: &str, columns: Vec<i64>) -> String {
        let columns = self.constant(format!("{name}.columns"), Tensor::ints(columns));
        self.apply(name, "Gather", &[input, &columns], vec![attribute::int("axis", 1)])
    }

    fn integers(&mut self, name: &str, input: &str) -> String {
        let to = vec![attribute::int("to", i64::from(ElementType::I64.code()))];
        self.apply(name, "Cast", &[input], to)
    }
}
