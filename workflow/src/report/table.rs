//! Tables that fit the terminal.

/// Columns of the terminal that standard output goes to; without limit elsewhere, unless `COLUMNS` says otherwise.
pub(crate) fn width() -> usize {
    if let Ok(size) = rustix::termios::tcgetwinsize(std::io::stdout())
        && size.ws_col > 0
    {
        return usize::from(size.ws_col);
    }
    std::env::var("COLUMNS")
        .ok()
        .and_then(|text| text.parse().ok())
        .filter(|columns| *columns >= 40)
        .unwrap_or(usize::MAX)
}

/// Lays out rows below a header. All columns but the last are as wide as needed; the last takes the rest, at least 20, and
/// goes on in the next line where that is not enough.
pub(crate) fn table(header: &[&str], rows: &[Vec<String>], width: usize) -> String {
    let columns = header.len();
    let length = |text: &str| text.chars().count();
    let mut widths: Vec<usize> = header.iter().map(|text| length(text)).collect();
    for row in rows {
        for (column, cell) in row.iter().enumerate() {
            widths[column] = widths[column].max(length(cell));
        }
    }
    let before: usize = widths[..columns - 1].iter().map(|width| width + 2).sum();
    let rest = width.saturating_sub(before).max(20);
    let mut text = String::new();
    let header: Vec<String> = header.iter().map(|cell| (*cell).to_owned()).collect();
    for row in std::iter::once(&header).chain(rows) {
        let mut line = String::new();
        for (column, cell) in row.iter().enumerate() {
            if column + 1 < columns {
                line.push_str(cell);
                line.push_str(&" ".repeat(widths[column] - length(cell) + 2));
            } else {
                line.push_str(&wrapped(cell, rest).join(&format!("\n{}", " ".repeat(before))));
            }
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// Lines of at most `width` characters, parted at blanks where there are some.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    let mut room = width;
    for word in text.split(' ') {
        let mut rest: Vec<char> = word.chars().collect();
        if room < width {
            if rest.len() < room {
                lines.last_mut().expect("there is always a line").push(' ');
                room -= 1;
            } else {
                lines.push(String::new());
                room = width;
            }
        }
        while rest.len() > width {
            let line: String = rest.drain(..width).collect();
            lines.last_mut().expect("there is always a line").push_str(&line);
            lines.push(String::new());
        }
        room -= rest.len();
        lines.last_mut().expect("there is always a line").extend(rest);
    }
    lines
}

/// A number with six significant digits, without needless zeros.
pub(crate) fn number(value: f64) -> String {
    if value == 0.0 || (1e-4..1e7).contains(&value.abs()) {
        let digits = if value == 0.0 {
            0
        } else {
            (5 - value.abs().log10().floor() as i32).clamp(0, 10) as usize
        };
        let text = format!("{value:.digits$}");
        if text.contains('.') {
            text.trim_end_matches('0').trim_end_matches('.').to_owned()
        } else {
            text
        }
    } else {
        format!("{value:.4e}")
    }
}

/// A duration for people.
pub(crate) fn seconds(value: f64) -> String {
    let whole = value as u64;
    match whole {
        0..60 => format!("{value:.1} s"),
        60..3600 => format!("{}:{:02} min", whole / 60, whole % 60),
        _ => format!("{}:{:02} h", whole / 3600, whole / 60 % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_column_goes_on_in_the_next_line() {
        let rows = vec![
            vec!["1".to_owned(), format!("rate=0.5 units={}", "9".repeat(12))],
            vec!["10".to_owned(), "x".repeat(25)],
            vec!["11".to_owned(), String::new()],
        ];
        let text = table(&["id", "point"], &rows, 24);
        let expected = [
            "id  point",
            "1   rate=0.5",
            "    units=999999999999",
            "10  xxxxxxxxxxxxxxxxxxxx",
            "    xxxxx",
            "11",
            "",
        ];
        assert_eq!(text.split('\n').collect::<Vec<_>>(), expected);
        assert!(table(&["id", "point"], &rows, usize::MAX).contains("rate=0.5 units=999999999999"));
    }

    #[test]
    fn numbers_and_times_are_short() {
        let numbers = [0.0, 1.0, 0.25, 1234.5, 0.000_123_456_7, 1e-9, 123_456_789.0, -0.5].map(number);
        assert_eq!(
            numbers,
            [
                "0",
                "1",
                "0.25",
                "1234.5",
                "0.000123457",
                "1.0000e-9",
                "1.2346e8",
                "-0.5"
            ]
        );
        assert_eq!(
            [0.04, 59.0, 61.0, 3661.0].map(seconds),
            ["0.0 s", "59.0 s", "1:01 min", "1:01 h"]
        );
    }
}
