//! Kubernetes' way to write an amount, as far as memory needs it.

/// Bytes of a memory quantity such as `64Mi`, `1.5G`, `128974848000m` or
/// `12e6`, rounded up as the kubelet does (`Quantity.Value()`,
/// apimachinery/pkg/api/resource/quantity.go). None for what is no quantity,
/// is negative, or is more than 64 bits hold.
pub fn bytes(text: &str) -> Option<u64> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, suffix) = text.split_at_checked(end)?;
    let (multiplier, divisor) = scale(suffix)?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let digits: u128 = format!("{whole}{fraction}").parse().ok()?;
    let places = u32::try_from(fraction.len()).ok()?;
    let divisor = divisor.checked_mul(10_u128.checked_pow(places)?)?;
    let scaled = digits.checked_mul(multiplier)?.div_ceil(divisor);
    u64::try_from(scaled).ok()
}

/// What a suffix multiplies and divides by.
fn scale(suffix: &str) -> Option<(u128, u128)> {
    let binary = |power: u32| Some((1 << (10 * power), 1));
    let decimal = |power: u32| Some((1000_u128.pow(power), 1));
    match suffix {
        "" => Some((1, 1)),
        "Ki" => binary(1),
        "Mi" => binary(2),
        "Gi" => binary(3),
        "Ti" => binary(4),
        "Pi" => binary(5),
        "Ei" => binary(6),
        "k" => decimal(1),
        "M" => decimal(2),
        "G" => decimal(3),
        "T" => decimal(4),
        "P" => decimal(5),
        "E" => decimal(6),
        "m" => Some((1, 1_000)),
        "u" => Some((1, 1_000_000)),
        "n" => Some((1, 1_000_000_000)),
        exponent => {
            let power: i32 = exponent.strip_prefix(['e', 'E'])?.parse().ok()?;
            let factor = 10_u128.checked_pow(power.unsigned_abs())?;
            Some(if power < 0 { (1, factor) } else { (factor, 1) })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_read_as_kubernetes_reads_them() {
        let table = [
            ("64Mi", Some(64 << 20)),
            ("0", Some(0)),
            ("268435456", Some(256 << 20)),
            ("1.5Gi", Some(3 << 29)),
            ("1G", Some(1_000_000_000)),
            ("128974848000m", Some(128_974_848)),
            ("100m", Some(1)),
            ("12e6", Some(12_000_000)),
            ("12E6", Some(12_000_000)),
            ("15e-1", Some(2)),
            (".5k", Some(500)),
            ("15Ei", Some(15 << 60)),
            ("16Ei", None),
            ("", None),
            (".", None),
            ("Mi", None),
            ("-1", None),
            ("1 Mi", None),
            ("1mi", None),
            ("1.2.3", None),
            ("1e999", None),
            ("64Mié", None),
        ];
        for (text, expected) in table {
            assert_eq!(bytes(text), expected, "{text:?}");
        }
    }
}
