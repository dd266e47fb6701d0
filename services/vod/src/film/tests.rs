//! Films that can be parsed, and files that cannot.

use std::time::Duration;

use bytes::Bytes;

use super::*;
use crate::forge::{
    SOUND, VIDEO, boxed, clip, film, film_at, fragment, ftyp, mdat, moof, moov, sound, track, udta, video,
};

const HALF_SECOND: Duration = Duration::from_millis(500);

fn together(film: &Film) -> Vec<u8> {
    let (first, rest) = film.fragments().split_first().unwrap();
    let mut bytes = film.opening(first).to_vec();
    rest.iter().for_each(|it| bytes.extend_from_slice(&film.payload(it)));
    bytes
}

fn starts(film: &Film) -> Vec<u128> {
    film.fragments().iter().map(|it| it.start.as_millis()).collect()
}

#[test]
fn the_clips_are_films() {
    let cases = [
        ("mandelbrot", "Into the Mandelbrot set"),
        ("life", "The game of Life"),
        ("gradients", "Drifting colours"),
    ];
    for (unit, title) in cases {
        let file = clip(unit);
        let film = Film::parse(file.clone()).unwrap();
        assert_eq!(film.title(), Some(title));
        assert_eq!(film.duration(), Duration::from_secs(60));
        assert_eq!(film.size(), file.len() as u64);
        assert_eq!(film.fragments().len(), 120);
        for (index, it) in film.fragments().iter().enumerate() {
            assert_eq!((it.start, it.duration, it.key), (HALF_SECOND * index as u32, HALF_SECOND, true));
        }
        assert_eq!(together(&film), file, "{unit}");
    }
}

#[test]
fn payloads_are_slices_of_the_file() {
    let file = clip("life");
    let film = Film::parse(file.clone()).unwrap();
    let inside = file.as_ptr_range();
    let is_inside = |it: &Bytes| inside.contains(&it.as_ptr());
    assert!(film.fragments().iter().all(|it| is_inside(&film.payload(it))));
    assert!(is_inside(&film.opening(&film.fragments()[0])));
}

#[test]
fn an_opening_is_the_init_segment_and_the_fragment() {
    let film = Film::parse(clip("life")).unwrap();
    let (first, other) = (&film.fragments()[0], &film.fragments()[60]);
    let init = film.opening(first).slice(..film.init.len());
    assert_eq!(film.opening(other), [init, film.payload(other)].concat());
}

#[test]
fn boxes_around_a_fragment_go_with_it() {
    let styp = || boxed(b"styp", &[b"msdh".to_vec()]);
    let one = [boxed(b"sidx", &[vec![0; 24]]), styp(), fragment(1, VIDEO, Some(0), &[500])].concat();
    let two = [boxed(b"emsg", &[vec![0; 9]]), styp(), fragment(2, VIDEO, Some(500), &[500])].concat();
    let end = boxed(b"mfra", &[vec![0; 16]]);
    let film = film(&[ftyp(), moov(&[video()]), one.clone(), two.clone(), end.clone()]);
    let payloads: Vec<Bytes> = film.fragments().iter().map(|it| film.payload(it)).collect();
    assert_eq!(payloads, [one, [two, end].concat()]);
}

#[test]
fn sound_goes_with_the_pictures_that_follow() {
    let one = [fragment(1, SOUND, Some(0), &[500]), fragment(2, VIDEO, Some(0), &[500])].concat();
    let two = [fragment(3, SOUND, Some(500), &[500]), fragment(4, VIDEO, Some(500), &[500])].concat();
    let film = film(&[ftyp(), moov(&[sound(), video()]), one.clone(), two.clone()]);
    let payloads: Vec<Bytes> = film.fragments().iter().map(|it| film.payload(it)).collect();
    assert_eq!(payloads, [one, two]);
    assert_eq!(starts(&film), [0, 500]);
}

#[test]
fn time_is_counted_from_the_first_fragment() {
    assert_eq!(starts(&film_at(&[7_000, 7_500, 8_000])), [0, 500, 1_000]);
    assert_eq!(starts(&film_at(&[u64::MAX - 1_000, u64::MAX - 500])), [0, 500]);
    // A fragment that does not say when it starts follows the one before.
    let silent = |sequence| fragment(sequence, VIDEO, None, &[300, 200]);
    assert_eq!(starts(&film(&[ftyp(), moov(&[video()]), silent(1), silent(2)])), [0, 500]);
}

#[test]
fn a_fragment_lasts_as_long_as_all_its_runs() {
    const MOOF_HEADER_AND_MFHD: usize = 8 + 16;
    let one = moof(1, VIDEO, Some(0), &[100, 100], true);
    let two = moof(1, VIDEO, Some(200), &[300], false);
    let both = boxed(b"moof", &[one[8..].to_vec(), two[MOOF_HEADER_AND_MFHD..].to_vec()]);
    let film = film(&[ftyp(), moov(&[video()]), both, mdat(16)]);
    assert_eq!(film.duration(), HALF_SECOND);
    assert!(film.fragments()[0].key);
}

#[test]
fn seeking_finds_the_fragment_that_shows_the_position() {
    let film = film_at(&[0, 500, 1_000, 1_700]);
    let cases = [(0, Some(0)), (499, Some(0)), (500, Some(1)), (1_699, Some(2)), (1_700, Some(3))];
    for (millis, expected) in cases {
        assert_eq!(film.seek(Duration::from_millis(millis)), expected, "at {millis} ms");
    }
    assert_eq!(film.seek(film.duration()), None);
    assert_eq!(film.seek(film.duration() - Duration::from_nanos(1)), Some(3));
    assert_eq!(film.seek(Duration::MAX), None);
}

#[test]
fn seeking_starts_where_a_decoder_can() {
    let part =
        |index: u32, key| [moof(index, VIDEO, Some(500 * u64::from(index)), &[500], key), mdat(16)].concat();
    let film =
        film(&[ftyp(), moov(&[video()]), part(0, false), part(1, true), part(2, false), part(3, true)]);
    let found: Vec<_> = (0..4).map(|index| film.seek(HALF_SECOND * index)).collect();
    assert_eq!(found, [Some(0), Some(1), Some(1), Some(3)]);
}

#[test]
fn a_title_that_cannot_be_shown_is_left_out() {
    let titled = |title: &[u8]| {
        let moov = moov(&[video(), udta(title)]);
        film(&[ftyp(), moov, fragment(1, VIDEO, Some(0), &[500])]).title().map(str::to_owned)
    };
    assert_eq!(titled("  Ein Übergang ".as_bytes()).as_deref(), Some("Ein Übergang"));
    for unfit in [&b""[..], b"  ", b"\x1b[2J", b"\xff\xfe", &[b'a'; 1000]] {
        assert_eq!(titled(unfit), None);
    }
}

#[test]
fn whatever_a_film_needs_may_be_sent_under_every_policy() {
    for commit in [None, Some(Level::Agreed), Some(Level::Safe)] {
        assert!(FRAGMENT_BYTES_MAX <= response_bytes_max(commit), "{commit:?}");
    }
}

#[test]
fn files_that_are_not_films_say_why() {
    let one = || fragment(1, VIDEO, Some(0), &[500]);
    let head = || [ftyp(), moov(&[video()])].concat();
    let with = |rest: &[Vec<u8>]| [head(), rest.concat()].concat();
    let malformed = |kind: &str, offset, reason: &str| FilmError::Malformed {
        kind: kind.into(),
        offset,
        reason: reason.into(),
    };
    let truncated = |kind: &str, offset, missing| FilmError::Truncated { kind: kind.into(), offset, missing };
    let in_head = head().len();
    let too_large = head().len() + one().len() - 16 + FRAGMENT_BYTES_MAX;
    let cases = [
        ("no bytes", vec![], FilmError::Empty),
        ("text", b"once upon a time".to_vec(), FilmError::NotMp4),
        ("three bytes", vec![0; 3], FilmError::NotMp4),
        ("only ftyp", ftyp(), FilmError::NotFragmented),
        ("no fragments", head(), FilmError::NotFragmented),
        (
            "not made for fragments",
            [ftyp(), mdat(9), boxed(b"moov", &[video()])].concat(),
            FilmError::NotFragmented,
        ),
        (
            "only sound",
            [ftyp(), moov(&[sound()]), fragment(1, SOUND, Some(0), &[500])].concat(),
            FilmError::NoVideoTrack,
        ),
        ("only sound in fragments", with(&[fragment(1, SOUND, Some(0), &[500])]), FilmError::NotFragmented),
        (
            "cut in mdat",
            with(&[one()])[..in_head + one().len() - 5].to_vec(),
            truncated("mdat", in_head + one().len() - 24, 5),
        ),
        ("cut in a header", with(&[one(), vec![0, 0, 1]]), truncated("header", in_head + one().len(), 5)),
        (
            "cut in a large header",
            with(&[one(), b"\0\0\0\x01mdat\0".to_vec()]),
            truncated("header", in_head + one().len(), 7),
        ),
        (
            "a header too small",
            with(&[vec![0, 0, 0, 4, b'f', b'r', b'e', b'e']]),
            malformed("header", in_head, "invalid size"),
        ),
        (
            "a head without a body",
            with(&[one(), moof(2, VIDEO, Some(500), &[500], true)]),
            malformed("moof", in_head + one().len(), "no `mdat` follows it"),
        ),
        (
            "two heads",
            with(&[moof(1, VIDEO, Some(0), &[500], true), one()]),
            malformed("moof", in_head, "no `mdat` follows it"),
        ),
        (
            "going back",
            with(&[fragment(1, VIDEO, Some(500), &[500]), one()]),
            FilmError::OutOfOrder { fragment: 1 },
        ),
        (
            "no clock",
            [ftyp(), moov(&[track(VIDEO, b"vide", 0)]), one()].concat(),
            malformed("mdia", in_moov(&video()), "missing required content: timescale"),
        ),
        (
            "too long",
            with(&[one(), fragment(2, VIDEO, Some(500), &[5_000, 5_001])]),
            FilmError::FragmentTooLong {
                fragment: 1,
                duration: Duration::from_millis(10_001),
                max: FRAGMENT_DURATION_MAX,
            },
        ),
        (
            "too large",
            with(&[moof(1, VIDEO, Some(0), &[500], true), mdat(FRAGMENT_BYTES_MAX)]),
            FilmError::FragmentTooLarge { fragment: 0, bytes: too_large, max: FRAGMENT_BYTES_MAX },
        ),
    ];
    for (case, file, expected) in cases {
        assert_eq!(Film::parse(file.into()), Err(expected), "{case}");
    }
}

/// Where `mdia` starts in a film whose `moov` has this track first.
fn in_moov(track: &[u8]) -> usize {
    ftyp().len() + 8 + track.windows(4).position(|it| it == b"mdia").unwrap() - 4
}

#[test]
fn every_way_of_cutting_a_file_short_is_noticed_or_harmless() {
    let whole = Film::parse(clip("mandelbrot")).unwrap();
    let ends: Vec<usize> = whole.fragments().iter().map(|it| it.range.end).collect();
    for len in 0..ends[2] {
        let parsed = Film::parse(whole.file.slice(..len));
        let complete = ends.iter().filter(|end| **end <= len).count();
        let expected = ends.contains(&len).then_some(complete);
        assert_eq!(parsed.ok().map(|it| it.fragments().len()), expected, "{len} bytes");
    }
}

#[test]
fn a_damaged_byte_is_an_error_or_another_film_but_no_crash() {
    let whole = Film::parse(clip("gradients")).unwrap();
    let file = whole.file.slice(..whole.fragments()[2].range.end);
    let heads = whole.fragments()[0].range.start + 200;
    let mut refused = 0;
    for at in 0..heads {
        for change in [0x01, 0x40, 0x80, 0xff] {
            let mut damaged = file.to_vec();
            damaged[at] ^= change;
            match Film::parse(damaged.clone().into()) {
                Ok(film) => assert_eq!(together(&film), damaged),
                Err(_) => refused += 1,
            }
        }
    }
    assert!(refused > 0);
}
