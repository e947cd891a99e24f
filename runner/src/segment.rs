//! Execution segments: which part of the load this instance generates.
//!
//! A test may be split over several instances. Each is told its own segment, a half-open interval
//! of (0, 1], and the sequence of all segments. From these alone every instance works out which
//! of the globally numbered VUs, iterations and arrival events are its own, so that the parts sum
//! to the whole exactly and no two instances own the same number. All arithmetic is on exact
//! rationals; floats appear only where a percentage is shown.
//!
//! *Unscaled* numbers are global over all instances, *scaled* ones local to this instance.

use std::{fmt, sync::Arc};

/// An exact rational number in lowest terms with a positive denominator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Ratio {
    num: i128,
    den: i128,
}

fn gcd(a: i128, b: i128) -> i128 {
    let (mut a, mut b) = (a.abs(), b.abs());
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

impl Ratio {
    const ZERO: Self = Self { num: 0, den: 1 };
    const ONE: Self = Self { num: 1, den: 1 };

    /// `None` when the denominator is zero or the value leaves 128 bits.
    fn new(num: i128, den: i128) -> Option<Self> {
        if den == 0 || num == i128::MIN || den == i128::MIN {
            return None;
        }
        let common = gcd(num, den) * den.signum();
        Some(Self {
            num: num / common,
            den: den / common,
        })
    }

    fn minus(self, other: Self) -> Option<Self> {
        Self::new(
            self.num
                .checked_mul(other.den)?
                .checked_sub(other.num.checked_mul(self.den)?)?,
            self.den.checked_mul(other.den)?,
        )
    }

    /// Whether `self` is less than `other`; `None` when the comparison leaves 128 bits.
    fn less(self, other: Self) -> Option<bool> {
        Some(self.num.checked_mul(other.den)? < other.num.checked_mul(self.den)?)
    }

    fn to_f64(self) -> f64 {
        self.num as f64 / self.den as f64
    }

    /// Two decimals, rounded half away from zero, as messages show values.
    fn hundredths(self) -> String {
        let sign = if self.num < 0 { "-" } else { "" };
        let num = self.num.unsigned_abs();
        let den = self.den.unsigned_abs();
        let whole = num / den;
        let rounded = ((num % den).saturating_mul(200) / den).div_ceil(2);
        format!("{sign}{}.{:02}", whole + rounded / 100, rounded % 100)
    }
}

impl fmt::Display for Ratio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.den == 1 {
            write!(f, "{}", self.num)
        } else {
            write!(f, "{}/{}", self.num, self.den)
        }
    }
}

/// A point of a segment: `25%`, or what [`parse_ratio`] reads.
fn parse_point(text: &str) -> Result<Ratio, String> {
    if let Some(percent) = text.strip_suffix('%') {
        return percent
            .parse()
            .ok()
            .and_then(|percent: i64| Ratio::new(percent.into(), 100))
            .ok_or_else(|| format!("'{text}' is not a valid percentage"));
    }
    parse_ratio(text).ok_or_else(|| {
        format!("'{text}' is not a valid percentage, decimal, fraction or interval value")
    })
}

/// A fraction (`1/3`, `0x1/0x2`), a decimal (`0.25`, `.5`) or a decimal with an exponent (`1e-1`),
/// with `_` allowed between digits.
fn parse_ratio(text: &str) -> Option<Ratio> {
    if let Some((num, den)) = text.split_once('/') {
        let (negative, num) = strip_sign(num);
        let num = parse_integer(num)?;
        return Ratio::new(if negative { -num } else { num }, parse_integer(den)?);
    }
    let (negative, unsigned) = strip_sign(text);
    if unsigned.starts_with("0x") || unsigned.starts_with("0X") {
        let num = parse_integer(unsigned)?;
        return Ratio::new(if negative { -num } else { num }, 1);
    }
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
        None => (unsigned, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let digits = format!("{}{}", digits_of(whole, 10)?, digits_of(fraction, 10)?);
    let value: i128 = digits.parse().ok()?;
    let decimals = digits_of(fraction, 10)?.len();
    let scale = exponent.checked_sub(i32::try_from(decimals).ok()?)?;
    let power = 10_i128.checked_pow(scale.unsigned_abs())?;
    let value = if negative { -value } else { value };
    if scale < 0 {
        Ratio::new(value, power)
    } else {
        Ratio::new(value.checked_mul(power)?, 1)
    }
}

fn strip_sign(text: &str) -> (bool, &str) {
    match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    }
}

/// An unsigned integer, decimal or with a base prefix.
fn parse_integer(text: &str) -> Option<i128> {
    let (base, digits) = match text.get(..2) {
        Some("0x" | "0X") => (16, &text[2..]),
        Some("0o" | "0O") => (8, &text[2..]),
        Some("0b" | "0B") => (2, &text[2..]),
        _ => (10, text),
    };
    let digits = digits_of(digits, base)?;
    i128::from_str_radix(&digits, base).ok()
}

/// The digits without their separators; `None` when anything else is among them, or a separator
/// does not stand between two digits.
fn digits_of(text: &str, base: u32) -> Option<String> {
    if text.starts_with('_') || text.ends_with('_') || text.contains("__") {
        return None;
    }
    text.chars()
        .filter(|&c| c != '_')
        .map(|c| c.is_digit(base).then_some(c))
        .collect()
}

/// A part (from, to] of the whole (0, 1].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Segment {
    from: Ratio,
    to: Ratio,
}

const TOO_PRECISE: &str = "the execution segment has more digits than can be computed with";

impl Segment {
    /// The whole, (0, 1].
    pub(crate) const WHOLE: Self = Self {
        from: Ratio::ZERO,
        to: Ratio::ONE,
    };

    fn new(from: Ratio, to: Ratio) -> Result<Self, String> {
        if from.num < 0 {
            return Err(format!(
                "segment start value must be at least 0 but was {}",
                from.hundredths()
            ));
        }
        if !from.less(to).ok_or(TOO_PRECISE)? {
            return Err(format!(
                "segment start({}) must be less than its end({})",
                from.hundredths(),
                to.hundredths()
            ));
        }
        if to.num > to.den {
            return Err(format!(
                "segment end value can't be more than 1 but was {}",
                to.hundredths()
            ));
        }
        Ok(Self { from, to })
    }

    /// Reads `from:to`, a lone `to` (which starts at 0), or an empty text (the whole).
    ///
    /// # Errors
    /// A sentence that names the failing part.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Ok(Self::WHOLE);
        }
        match text.split_once(':') {
            Some((from, to)) => Self::new(parse_point(from)?, parse_point(to)?),
            None => Self::new(Ratio::ZERO, parse_point(text)?),
        }
    }

    fn length(&self) -> Option<Ratio> {
        self.to.minus(self.from)
    }

    /// How much of the whole this is, 0 to 1.
    pub(crate) fn fraction(&self) -> f64 {
        self.length().map_or_else(
            || self.to.to_f64() - self.from.to_f64(),
            |length| length.to_f64(),
        )
    }
}

impl fmt::Display for Segment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.from, self.to)
    }
}

/// Adjacent segments, in order. An empty one means that none was given.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Sequence(Vec<Segment>);

impl Sequence {
    /// The parts, in order.
    #[cfg(test)]
    pub(crate) fn segments(&self) -> &[Segment] {
        &self.0
    }

    /// Equal parts of the whole.
    fn equal(parts: u32) -> Option<Self> {
        let point = |n: u32| Ratio::new(n.into(), parts.into());
        let segments = (0..parts).map(|n| Segment::new(point(n)?, point(n + 1)?).ok());
        segments.collect::<Option<_>>().map(Self)
    }

    /// Reads rising points, `0,1/3,2/3,1`; they need not reach 0 or 1.
    ///
    /// # Errors
    /// A sentence that names the failing part.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Ok(Self::default());
        }
        let points = text
            .split(',')
            .map(parse_point)
            .collect::<Result<Vec<_>, _>>()?;
        if points.len() < 2 {
            return Err(format!(
                "at least 2 points are needed for an execution segment sequence, {} given",
                points.len()
            ));
        }
        let segments = points.windows(2).map(|pair| Segment::new(pair[0], pair[1]));
        Ok(Self(segments.collect::<Result<_, _>>()?))
    }

    /// Whether no sequence was given.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the segment is a member, compared by value.
    pub(crate) fn contains(&self, segment: &Segment) -> bool {
        self.0.contains(segment)
    }

    /// The full sequence that instances compute with: what was given, or the lone segment, with
    /// the parts before and after added.
    fn filled(segment: Option<&Segment>, sequence: Option<&Self>) -> Self {
        let mut members = match sequence {
            Some(sequence) if !sequence.is_empty() => sequence.0.clone(),
            _ => vec![*segment.unwrap_or(&Segment::WHOLE)],
        };
        let first = members[0].from;
        if first != Ratio::ZERO {
            members.insert(
                0,
                Segment {
                    from: Ratio::ZERO,
                    to: first,
                },
            );
        }
        let last = members[members.len() - 1].to;
        if last != Ratio::ONE {
            members.push(Segment {
                from: last,
                to: Ratio::ONE,
            });
        }
        Self(members)
    }
}

impl fmt::Display for Sequence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(first) = self.0.first() {
            write!(f, "{}", first.from)?;
        }
        self.0
            .iter()
            .try_for_each(|segment| write!(f, ",{}", segment.to))
    }
}

/// Beyond this many steps, dealing out one cycle of indices would take seconds and gigabytes:
/// such sequences come from typing errors, not from tests.
const MOST_STRIPING_STEPS: i128 = 1 << 30;
/// The longest cycle of indices.
const LONGEST_CYCLE: i128 = 1 << 24;

/// A full sequence with its indices dealt out: what is common to all instances of a test.
#[derive(Debug, PartialEq, Eq)]
struct Striped {
    sequence: Sequence,
    /// L, the least common denominator of the segments' lengths.
    cycle: i64,
    /// Each segment's length in units of 1/L: so many of any L consecutive indices are its own.
    shares: Vec<i64>,
}

impl Striped {
    fn new(sequence: Sequence) -> Result<Self, String> {
        let too_fine =
            || format!("the execution segment sequence {sequence} is too fine to be dealt out");
        let lengths = sequence
            .0
            .iter()
            .map(Segment::length)
            .collect::<Option<Vec<_>>>()
            .ok_or_else(too_fine)?;
        let mut cycle: i128 = 1;
        for length in &lengths {
            cycle = (cycle / gcd(cycle, length.den))
                .checked_mul(length.den)
                .filter(|&cycle| cycle <= LONGEST_CYCLE)
                .ok_or_else(too_fine)?;
        }
        if cycle * lengths.len() as i128 > MOST_STRIPING_STEPS {
            return Err(too_fine());
        }
        let shares = lengths
            .iter()
            .map(|length| (length.num * (cycle / length.den)) as i64)
            .collect();
        Ok(Self {
            sequence,
            cycle: cycle as i64,
            shares,
        })
    }

    /// Deals the indices `0..end` of a cycle, calling `give(index, segment)` for each.
    ///
    /// An index goes to the first segment, larger ones before smaller ones and ties by position,
    /// that is not yet ahead of its share: whose count c satisfies `c·L ≤ index·share`.
    fn deal(&self, end: i64, mut give: impl FnMut(i64, usize)) {
        let mut order: Vec<usize> = (0..self.shares.len()).collect();
        order.sort_by_key(|&segment| std::cmp::Reverse(self.shares[segment]));
        let mut counts = vec![0_i64; self.shares.len()];
        for index in 0..end {
            // The shares sum to L, so some segment is always behind; L² stays below 2^48.
            let owner = order
                .iter()
                .copied()
                .find(|&segment| counts[segment] * self.cycle <= index * self.shares[segment]);
            if let Some(owner) = owner {
                counts[owner] += 1;
                give(index, owner);
            }
        }
    }
}

/// This instance's segment within the filled sequence of all instances.
///
/// Cheap to clone: the tables are shared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tuple {
    striped: Arc<Striped>,
    index: usize,
    /// The indices of one cycle that are this instance's own, rising.
    given: Arc<[i64]>,
}

impl Tuple {
    /// Finds the segment (unset: the whole) in the sequence, which is filled first.
    ///
    /// # Errors
    /// When the segment is not a member of the sequence, or the sequence is too fine to compute.
    pub(crate) fn new(
        segment: Option<&Segment>,
        sequence: Option<&Sequence>,
    ) -> Result<Self, String> {
        let filled = Sequence::filled(segment, sequence);
        let segment = segment.unwrap_or(&Segment::WHOLE);
        let index = filled
            .0
            .iter()
            .position(|member| member == segment)
            .ok_or_else(|| format!("couldn't find segment {segment} in sequence {filled}"))?;
        Ok(Self::at(Arc::new(Striped::new(filled)?), index))
    }

    fn at(striped: Arc<Striped>, index: usize) -> Self {
        let mut given = Vec::with_capacity(striped.shares[index] as usize);
        striped.deal(striped.cycle, |number, owner| {
            if owner == index {
                given.push(number);
            }
        });
        Self {
            striped,
            index,
            given: given.into(),
        }
    }

    /// This instance's segment.
    pub(crate) fn segment(&self) -> &Segment {
        &self.striped.sequence.0[self.index]
    }

    /// How many instances share the load.
    pub(crate) fn instances(&self) -> usize {
        self.striped.sequence.0.len()
    }

    /// How much of the whole load this instance generates, 0 to 1.
    pub(crate) fn length(&self) -> f64 {
        self.segment().fraction()
    }

    /// This instance's part of a global count: how many of the numbers 1 to `n` are its own.
    /// Over all segments the parts sum to `n`; the part never falls as `n` rises.
    pub(crate) fn scale(&self, n: i64) -> i64 {
        let n = n.max(0);
        let (cycles, rest) = (n / self.striped.cycle, n % self.striped.cycle);
        let own = self.given.partition_point(|&index| index < rest);
        cycles * self.given.len() as i64 + own as i64
    }

    /// The global number (from 1) of this instance's `scaled`-th number (from 1); 0 for 0.
    pub(crate) fn unscaled(&self, scaled: i64) -> i64 {
        if scaled <= 0 {
            return 0;
        }
        let (cycles, place) = (
            (scaled - 1) / self.given.len() as i64,
            (scaled - 1) % self.given.len() as i64,
        );
        cycles
            .saturating_mul(self.striped.cycle)
            .saturating_add(self.given[place as usize] + 1)
    }

    /// The first own index (from 0) of a cycle.
    #[cfg(test)]
    pub(crate) fn start(&self) -> i64 {
        self.given[0]
    }

    /// The distances from each own index to the next, the last one wrapping into the next cycle.
    #[cfg(test)]
    pub(crate) fn offsets(&self) -> Vec<i64> {
        let next = self.given.iter().skip(1).copied();
        let wrapped = std::iter::once(self.start() + self.striped.cycle);
        self.given
            .iter()
            .zip(next.chain(wrapped))
            .map(|(&own, next)| next - own)
            .collect()
    }

    /// The same instance in a sequence whose parts are proportional to what each instance gets of
    /// `value` things. Shared iterations are divided in proportion to the VUs each instance really
    /// has (`value` = VUs), arrival events in proportion to its `maxVUs`.
    ///
    /// # Errors
    /// For a value below 1, and when this instance gets nothing of the value.
    pub(crate) fn resegment(&self, value: i64) -> Result<Self, String> {
        if value < 1 {
            return Err(format!("cannot generate new sequence for value {value}"));
        }
        let cycle = self.striped.cycle;
        if value % cycle == 0 {
            return Ok(self.clone());
        }
        let mut parts: Vec<i64> = self
            .striped
            .shares
            .iter()
            .map(|share| value / cycle * share)
            .collect();
        self.striped
            .deal(value % cycle, |_, owner| parts[owner] += 1);
        if parts[self.index] == 0 {
            return Err(format!(
                "segment {} ({}) isn't present in the new sequence",
                self.index,
                self.segment()
            ));
        }
        let index = parts[..self.index].iter().filter(|&&part| part > 0).count();
        let mut from = Ratio::ZERO;
        let mut sum = 0;
        let mut members = Vec::with_capacity(parts.len());
        for part in parts.into_iter().filter(|&part| part > 0) {
            sum += part;
            let to = Ratio::new(sum.into(), value.into()).ok_or(TOO_PRECISE)?;
            members.push(Segment { from, to });
            from = to;
        }
        Ok(Self::at(Arc::new(Striped::new(Sequence(members))?), index))
    }
}

/// The segment of `--execution-segment auto` and the sequence it belongs to: one of equal parts, as
/// the environment says. `VOLLEY_INSTANCES` is their number, `VOLLEY_INSTANCE`, from 0, which one;
/// in a pod of a Kubernetes Indexed Job that is `JOB_COMPLETION_INDEX`.
///
/// # Errors
/// A sentence about the variable that is missing or wrong.
pub(crate) fn of_instance(
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<(Segment, Sequence), String> {
    const COUNT: &str = "VOLLEY_INSTANCES";
    const OWN: &str = "VOLLEY_INSTANCE";
    const INDEXED_JOB: &str = "JOB_COMPLETION_INDEX";
    let number = |name: &str| {
        let text = env(name).filter(|text| !text.is_empty())?;
        let parsed = text.parse::<u32>();
        Some(parsed.map_err(|_| {
            format!("--execution-segment auto: {name} has to be a whole number, not '{text}'")
        }))
    };
    let count = number(COUNT).unwrap_or_else(|| {
        Err(format!(
            "--execution-segment auto: {COUNT} is not set; it says how many instances share the load"
        ))
    })?;
    let index = number(OWN)
        .or_else(|| number(INDEXED_JOB))
        .unwrap_or_else(|| {
            Err(format!(
                "--execution-segment auto: neither {OWN} nor {INDEXED_JOB} is set; they say which \
             instance this is, from 0"
            ))
        })?;
    let sequence = Sequence::equal(count).filter(|sequence| !sequence.is_empty());
    let own = sequence
        .as_ref()
        .and_then(|all| all.0.get(index as usize).copied());
    match (sequence, own) {
        (Some(sequence), Some(own)) => Ok((own, sequence)),
        (None, _) => Err(format!(
            "--execution-segment auto: {COUNT} is {count}: the load cannot be split so"
        )),
        (_, None) => Err(format!(
            "--execution-segment auto: this is instance {index}, but {COUNT} is {count}: instances \
             are numbered from 0"
        )),
    }
}

#[cfg(test)]
mod tests;

#[cfg(test)]
pub(crate) use tests::sequences;
