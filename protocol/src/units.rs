//! Times and sizes as options spell them.

/// Parses a time such as `90`, `90s`, `10m`, `2h`, `1d`.
///
/// # Errors
/// What was expected and found.
pub fn duration(text: &str) -> Result<std::time::Duration, String> {
    scaled(text, &[("s", 1.0), ("m", 60.0), ("h", 3600.0), ("d", 86400.0)])
        .filter(|seconds| *seconds > 0.0 && *seconds < 1e10)
        .map(std::time::Duration::from_secs_f64)
        .ok_or_else(|| format!("expected a time above 0 such as `90s`, `10m`, `2h` or `1d`, found `{text}`"))
}

/// Parses a size such as `4096`, `500K`, `100M`, `2G`, in powers of 1024, into bytes.
///
/// # Errors
/// What was expected and found.
pub fn size(text: &str) -> Result<u64, String> {
    let (kib, mib, gib) = (1024.0, 1_048_576.0, 1_073_741_824.0);
    let units = [
        ("KiB", kib),
        ("MiB", mib),
        ("GiB", gib),
        ("KB", kib),
        ("MB", mib),
        ("GB", gib),
        ("K", kib),
        ("M", mib),
        ("G", gib),
    ];
    scaled(text, &units)
        .filter(|bytes| *bytes >= 1.0 && *bytes < 1e18)
        .map(|bytes| bytes as u64)
        .ok_or_else(|| format!("expected a size above 0 such as `500K`, `100M` or `2G`, found `{text}`"))
}

fn scaled(text: &str, units: &[(&str, f64)]) -> Option<f64> {
    let text = text.trim();
    let (number, factor) = units
        .iter()
        .find_map(|(unit, factor)| text.strip_suffix(unit).map(|number| (number, *factor)))
        .unwrap_or((text, 1.0));
    number
        .trim()
        .parse::<f64>()
        .ok()
        .filter(|number| number.is_finite())
        .map(|number| number * factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_sizes_have_units() {
        assert_eq!(duration("90").unwrap().as_secs(), 90);
        assert_eq!(duration("1.5h").unwrap().as_secs(), 5_400);
        assert!(duration("0").is_err() && duration("soon").is_err() && duration("-1s").is_err());
        assert_eq!(size("100M").unwrap(), 100 << 20);
        assert_eq!(size("4096").unwrap(), 4_096);
        assert!(size("0").is_err() && size("1e300G").is_err());
    }
}
