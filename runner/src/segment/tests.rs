//! Every value of the stored vectors, and the properties that hold for sequences nobody stored.

use proptest::prelude::*;
use serde_json::Value;

use super::*;

/// Counts what was compared, so that a vector file that lost its contents cannot pass unseen.
#[derive(Default)]
struct Compared(usize);

impl Compared {
    #[track_caller]
    fn equal<T: PartialEq + fmt::Debug>(&mut self, found: T, expected: T, about: &str) {
        assert_eq!(found, expected, "{about}");
        self.0 += 1;
    }
}

fn vectors() -> Value {
    serde_json::from_str(include_str!("../../testdata/segments.json")).expect("vectors are JSON")
}

fn list<'a>(value: &'a Value, key: &str) -> &'a Vec<Value> {
    value[key]
        .as_array()
        .unwrap_or_else(|| panic!("{key} is a list"))
}

fn ints(value: &Value) -> Vec<i64> {
    value
        .as_array()
        .expect("a list")
        .iter()
        .map(|n| n.as_i64().expect("an integer"))
        .collect()
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key]
        .as_str()
        .unwrap_or_else(|| panic!("{key} is a text"))
}

/// A part of a part: the child's interval laid over the parent.
fn sub_segment(child: &Segment, parent: &Segment) -> Option<Segment> {
    let length = parent.length()?;
    let place = |point: Ratio| {
        let within = Ratio::new(point.num * length.num, point.den * length.den)?;
        Ratio::new(
            parent.from.num * within.den + within.num * parent.from.den,
            parent.from.den * within.den,
        )
    };
    Segment::new(place(child.from)?, place(child.to)?).ok()
}

fn split(segment: &Segment, parts: i128) -> Option<Vec<Segment>> {
    (0..parts)
        .map(|part| {
            let child = Segment {
                from: Ratio::new(part, parts)?,
                to: Ratio::new(part + 1, parts)?,
            };
            sub_segment(&child, segment)
        })
        .collect()
}

/// This instance's numbers, counted in the instance and over all.
fn numbers_of(tuple: &Tuple) -> impl Iterator<Item = (i64, i64)> {
    (1..).map(|scaled| (scaled, tuple.unscaled(scaled)))
}

fn check_segments(case: &Value, filled: &str, compared: &mut Compared) {
    let sequence = Sequence::parse(filled).expect("a filled sequence");
    for (index, expected) in list(case, "segments").iter().enumerate() {
        let name = text(expected, "segment");
        let about = format!("{name} of {filled}");
        let segment = Segment::parse(name).expect("a segment");
        let tuple = Tuple::new(Some(&segment), Some(&sequence)).expect("a member");
        compared.equal(tuple.index, index, &about);
        compared.equal(tuple.segment().to_string(), name.to_owned(), &about);
        compared.equal(Some(tuple.striped.cycle), case["lcd"].as_i64(), &about);
        compared.equal(Some(tuple.start()), expected["start"].as_i64(), &about);
        compared.equal(tuple.offsets(), ints(&expected["offsets"]), &about);
        let first = ints(&expected["first_unscaled"]);
        for (scaled, (found, &unscaled)) in (1..).zip(numbers_of(&tuple).zip(&first)) {
            compared.equal(found, (scaled, unscaled), &about);
        }
    }
}

#[test]
fn every_stored_vector_holds() {
    let vectors = vectors();
    let numbers = ints(&vectors["n"]);
    let mut compared = Compared::default();
    for case in list(&vectors, "sequences") {
        let filled = text(case, "filled");
        let given = Sequence::parse(text(case, "sequence_option")).expect("a sequence");
        compared.equal(given.to_string(), filled.to_owned(), "canonical");
        check_segments(case, filled, &mut compared);
        for expected in list(case, "segments") {
            let segment = Segment::parse(text(expected, "segment")).expect("a segment");
            let tuple = Tuple::new(Some(&segment), Some(&given)).expect("a member");
            for (&n, scaled) in numbers.iter().zip(ints(&expected["scaled"])) {
                let about = format!("{n} by {segment} of {filled}");
                compared.equal(tuple.scale(n), scaled, &about);
            }
            for row in list(expected, "goto") {
                let row = ints(row);
                let scaled = tuple.scale(row[0]);
                compared.equal(
                    (scaled, tuple.unscaled(scaled)),
                    (row[1], row[2]),
                    &format!("goto {} in {filled}", row[0]),
                );
            }
        }
    }
    for case in list(&vectors, "filled") {
        let segment = case["segment_option"]
            .as_str()
            .map(|text| Segment::parse(text).expect("a segment"));
        let sequence = case["sequence_option"]
            .as_str()
            .map(|text| Sequence::parse(text).expect("a sequence"));
        let filled = Sequence::filled(segment.as_ref(), sequence.as_ref()).to_string();
        compared.equal(filled.as_str(), text(case, "filled"), "filled");
        check_segments(case, &filled, &mut compared);
        let tuple = Tuple::new(segment.as_ref(), sequence.as_ref());
        if let Some(index) = case["tuple_index"].as_u64() {
            compared.equal(tuple.map(|tuple| tuple.index), Ok(index as usize), &filled);
        } else if let Some(error) = case["tuple_error"].as_str() {
            compared.equal(tuple.map(|_| ()), Err(error.to_owned()), &filled);
        } else {
            compared.equal(tuple.is_err(), true, &filled);
        }
    }
    for case in list(&vectors, "resegment") {
        let sequence = Sequence::parse(text(case, "sequence")).expect("a sequence");
        let index = case["index"].as_u64().expect("an index") as usize;
        let tuple = Tuple::new(Some(&sequence.0[index]), Some(&sequence)).expect("a member");
        let found = tuple.resegment(case["value"].as_i64().expect("a value"));
        let about = case.to_string();
        match case["error"].as_str() {
            Some(error) => compared.equal(found.map(|_| ()), Err(error.to_owned()), &about),
            None => {
                let found = found.expect(&about);
                let new = found.striped.sequence.to_string();
                compared.equal(new.as_str(), text(case, "new_sequence"), &about);
                compared.equal(Some(found.index as u64), case["new_index"].as_u64(), &about);
                let segment = found.segment().to_string();
                compared.equal(segment.as_str(), text(case, "new_segment"), &about);
                compared.equal(Some(found.striped.cycle), case["lcd"].as_i64(), &about);
                compared.equal(Some(found.start()), case["start"].as_i64(), &about);
                compared.equal(found.offsets(), ints(&case["offsets"]), &about);
            }
        }
    }
    for case in list(&vectors, "parse_segment") {
        let found = Segment::parse(text(case, "input"));
        let about = case.to_string();
        if let Some(length) = case["float_length"].as_f64() {
            compared.equal(found.as_ref().map(Segment::fraction), Ok(length), &about);
        }
        check_parsed(found.map(|s| s.to_string()), case, &mut compared);
    }
    for case in list(&vectors, "parse_sequence") {
        let found = Sequence::parse(text(case, "input"));
        if let Some(segments) = case["segments"].as_u64() {
            let found = found.as_ref().map(|sequence| sequence.0.len() as u64);
            compared.equal(
                found,
                Ok(segments).as_ref().copied().map_err(|e: &String| e),
                "segments",
            );
        }
        check_parsed(found.map(|s| s.to_string()), case, &mut compared);
    }
    for case in list(&vectors, "sub_segment") {
        let parsed = |key| Segment::parse(text(case, key)).expect("a segment");
        let found = sub_segment(&parsed("child"), &parsed("parent"));
        compared.equal(found, Some(parsed("result")), &case.to_string());
    }
    for case in list(&vectors, "split") {
        let segment = Segment::parse(text(case, "segment")).expect("a segment");
        let found = split(&segment, case["parts"].as_i64().expect("parts").into());
        let expected: Vec<&str> = list(case, "result")
            .iter()
            .filter_map(Value::as_str)
            .collect();
        let found: Vec<String> = found
            .expect("a split")
            .iter()
            .map(Segment::to_string)
            .collect();
        compared.equal(
            found.iter().map(String::as_str).collect(),
            expected,
            &case.to_string(),
        );
    }
    println!("{} values of segments.json compared", compared.0);
    assert!(
        compared.0 > 5_000,
        "only {} values were compared",
        compared.0
    );
}

fn check_parsed(found: Result<String, String>, case: &Value, compared: &mut Compared) {
    let expected = match case["error"].as_str() {
        Some(error) => Err(error.to_owned()),
        None => Ok(text(case, "canonical").to_owned()),
    };
    compared.equal(found, expected, &case.to_string());
}

#[test]
fn a_sequence_too_fine_to_deal_is_an_error() {
    let segment = Segment::parse("0.333333333333333333333").expect("a segment");
    let error = Tuple::new(Some(&segment), None).expect_err("10^21 indices");
    assert!(error.ends_with("is too fine to be dealt out"), "{error}");
}

#[test]
fn values_beyond_128_bits_are_refused() {
    for bad in [
        "1e400",
        "1/99999999999999999999999999999999999999999",
        "0x",
        "1e",
        ".",
        "+",
        "_1",
    ] {
        assert!(Segment::parse(bad).is_err(), "{bad}");
    }
}

#[test]
fn an_instance_finds_its_part_in_the_environment() {
    let of = |pairs: &[(&str, &str)]| {
        of_instance(&|name| {
            let found = pairs.iter().find(|(key, _)| *key == name);
            found.map(|(_, value)| (*value).to_owned())
        })
    };
    let (segment, sequence) =
        of(&[("VOLLEY_INSTANCES", "3"), ("JOB_COMPLETION_INDEX", "1")]).expect("a part");
    assert_eq!(segment, Segment::parse("1/3:2/3").expect("a segment"));
    assert_eq!(
        sequence,
        Sequence::parse("0,1/3,2/3,1").expect("a sequence")
    );
    let (segment, sequence) = of(&[
        ("VOLLEY_INSTANCES", "1"),
        ("VOLLEY_INSTANCE", "0"),
        ("JOB_COMPLETION_INDEX", "7"),
    ])
    .expect("the whole");
    assert_eq!(segment, Segment::WHOLE);
    assert_eq!(sequence, Sequence::parse("0,1").expect("a sequence"));
    for (pairs, problem) in [
        (
            &[("VOLLEY_INSTANCE", "0")][..],
            "VOLLEY_INSTANCES is not set",
        ),
        (
            &[("VOLLEY_INSTANCES", "2")][..],
            "neither VOLLEY_INSTANCE nor",
        ),
        (
            &[("VOLLEY_INSTANCES", "2"), ("VOLLEY_INSTANCE", "2")][..],
            "this is instance 2, but VOLLEY_INSTANCES is 2",
        ),
        (
            &[("VOLLEY_INSTANCES", "0"), ("VOLLEY_INSTANCE", "0")][..],
            "the load cannot be split so",
        ),
        (
            &[("VOLLEY_INSTANCES", "two"), ("VOLLEY_INSTANCE", "0")][..],
            "has to be a whole number, not 'two'",
        ),
    ] {
        let error = of(pairs).expect_err(problem);
        assert!(error.contains(problem), "{error}");
    }
}

/// Rising points of small denominators, from 0 to 1.
pub(crate) fn sequences() -> impl Strategy<Value = Sequence> {
    prop::collection::btree_set((1_i128..60).prop_flat_map(|d| (0..d, Just(d))), 0..6).prop_map(
        |points| {
            let mut points: Vec<Ratio> = points
                .into_iter()
                .filter_map(|(n, d)| Ratio::new(n, d))
                .chain([Ratio::ZERO, Ratio::ONE])
                .collect();
            points.sort_by(|a, b| (a.num * b.den).cmp(&(b.num * a.den)));
            points.dedup();
            Sequence(
                points
                    .windows(2)
                    .map(|pair| Segment {
                        from: pair[0],
                        to: pair[1],
                    })
                    .collect(),
            )
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn parts_sum_to_the_whole_and_share_nothing(sequence in sequences(), n in 0_i64..3_000) {
        let tuples: Vec<Tuple> = sequence
            .0
            .iter()
            .filter_map(|segment| Tuple::new(Some(segment), Some(&sequence)).ok())
            .collect();
        // Denominators whose least common multiple passes the limit are refused alike by all.
        prop_assume!(tuples.len() == sequence.0.len());
        prop_assert_eq!(tuples.iter().map(|tuple| tuple.scale(n)).sum::<i64>(), n);
        let mut owned: Vec<i64> = tuples
            .iter()
            .flat_map(|tuple| numbers_of(tuple).map(|(_, number)| number).take_while(|&number| number <= n))
            .collect();
        owned.sort_unstable();
        prop_assert_eq!(owned, (1..=n).collect::<Vec<_>>());
    }

    #[test]
    fn resegmented_parts_sum_to_the_whole(sequence in sequences(), value in 1_i64..200, n in 0_i64..10_000) {
        let mut sum = 0;
        for segment in &sequence.0 {
            let Ok(tuple) = Tuple::new(Some(segment), Some(&sequence)) else {
                return Ok(());
            };
            let part = tuple.scale(value);
            match tuple.resegment(value) {
                Ok(tuple) => sum += tuple.scale(n),
                Err(_) => prop_assert_eq!(part, 0),
            }
        }
        prop_assert_eq!(sum, n);
    }

    #[test]
    fn no_text_panics(text in "\\PC{0,20}") {
        let _ = Segment::parse(&text);
        let _ = Sequence::parse(&text);
    }
}
