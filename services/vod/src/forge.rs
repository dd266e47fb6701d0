//! Films made by hand for tests: as small as can be, and broken on demand.

use bytes::Bytes;
use mp4_atom::{Encode, FourCC, Hdlr, Mdhd, Mfhd, Tfdt, Tfhd, Tkhd, Trex, Trun, TrunEntry};

use crate::film::Film;

pub(crate) const VIDEO: u32 = 1;
pub(crate) const SOUND: u32 = 2;
pub(crate) const TICKS_PER_SECOND: u32 = 1000;

/// One of the films of the repository.
pub(crate) fn clip(unit: &str) -> Bytes {
    let path = format!("{}/../../content/{unit}.mp4", env!("CARGO_MANIFEST_DIR"));
    Bytes::from(std::fs::read(path).unwrap())
}

pub(crate) fn film(parts: &[Vec<u8>]) -> Film {
    Film::parse(parts.concat().into()).unwrap()
}

/// A film of fragments that begin at these ticks; the last one lasts 500 of them.
pub(crate) fn film_at(starts: &[u64]) -> Film {
    let mut parts = vec![ftyp(), moov(&[video()])];
    for (index, start) in starts.iter().enumerate() {
        let end = starts.get(index + 1).copied().unwrap_or(start + 500);
        parts.push(fragment(index as u32, VIDEO, Some(*start), &[(end - start) as u32]));
    }
    film(&parts)
}

pub(crate) fn boxed(kind: &[u8; 4], parts: &[Vec<u8>]) -> Vec<u8> {
    let body = parts.concat();
    let mut bytes = (body.len() as u32 + 8).to_be_bytes().to_vec();
    bytes.extend_from_slice(kind);
    bytes.extend(body);
    bytes
}

fn atom(atom: impl Encode) -> Vec<u8> {
    let mut bytes = Vec::new();
    atom.encode(&mut bytes).unwrap();
    bytes
}

pub(crate) fn ftyp() -> Vec<u8> {
    boxed(b"ftyp", &[b"iso5\0\0\x02\0iso5".to_vec()])
}

pub(crate) fn video() -> Vec<u8> {
    track(VIDEO, b"vide", TICKS_PER_SECOND)
}

pub(crate) fn sound() -> Vec<u8> {
    track(SOUND, b"soun", TICKS_PER_SECOND)
}

pub(crate) fn track(track_id: u32, handler: &[u8; 4], timescale: u32) -> Vec<u8> {
    let mdhd = Mdhd { timescale, language: "und".into(), ..Mdhd::default() };
    let hdlr = Hdlr { handler: FourCC::new(handler), name: String::new() };
    let media = boxed(b"mdia", &[atom(mdhd), atom(hdlr)]);
    boxed(b"trak", &[atom(Tkhd { track_id, ..Tkhd::default() }), media])
}

/// An init segment for fragments with these tracks.
pub(crate) fn moov(tracks: &[Vec<u8>]) -> Vec<u8> {
    let defaults = |track_id| atom(Trex { track_id, default_sample_duration: 100, ..Trex::default() });
    boxed(b"moov", &[tracks.concat(), boxed(b"mvex", &[defaults(VIDEO), defaults(SOUND)])])
}

/// The title of a film, as ffmpeg writes it into `moov`.
pub(crate) fn udta(title: &[u8]) -> Vec<u8> {
    let data = boxed(b"data", &[vec![0, 0, 0, 1, 0, 0, 0, 0], title.to_vec()]);
    let meta = boxed(b"meta", &[vec![0; 4], boxed(b"ilst", &[boxed(b"\xa9nam", &[data])])]);
    boxed(b"udta", &[meta])
}

/// The head of a fragment whose first sample a decoder can start at if `key`.
pub(crate) fn moof(sequence: u32, track: u32, start: Option<u64>, samples: &[u32], key: bool) -> Vec<u8> {
    let flags = |index: usize| if key && index == 0 { 0 } else { 1 << 16 };
    let entry = |(index, duration): (usize, &u32)| TrunEntry {
        duration: Some(*duration),
        flags: Some(flags(index)),
        ..TrunEntry::default()
    };
    let entries: Vec<TrunEntry> = samples.iter().enumerate().map(entry).collect();
    let run = atom(Trun { data_offset: None, samples: entries.into() });
    let start = start.map(|base_media_decode_time| atom(Tfdt { base_media_decode_time })).unwrap_or_default();
    let head = atom(Tfhd { track_id: track, ..Tfhd::default() });
    boxed(b"moof", &[atom(Mfhd { sequence_number: sequence }), boxed(b"traf", &[head, start, run])])
}

pub(crate) fn mdat(len: usize) -> Vec<u8> {
    boxed(b"mdat", &[vec![7; len]])
}

/// A fragment that a decoder can start at.
pub(crate) fn fragment(sequence: u32, track: u32, start: Option<u64>, samples: &[u32]) -> Vec<u8> {
    [moof(sequence, track, start, samples, true), mdat(16)].concat()
}
