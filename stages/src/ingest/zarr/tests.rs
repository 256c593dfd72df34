//! Chunks that numcodecs and zarr-python have packed, and chunks that were damaged since.
#![allow(clippy::unwrap_used, reason = "a test fails where it panics")]

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::json;

use super::{
    blosc,
    codecs::{self, Decoded},
    element::{Element, Fill},
    packing::{Packing, unpack},
};
use crate::element;

/// Frames of numcodecs: blosclz, lz4, lz4hc, zlib and zstd, each without a shuffle, with bytes and with bits
/// shuffled, of values of 4 bytes in blocks of 1,024 bytes, and of values of 8 bytes in one block. Before each stand the
/// bytes of a value and its length, as u32.
const FRAMES: &[u8] = include_bytes!("tests/frames.bin");

/// What every frame holds: 1,100 whole numbers, of which some repeat.
fn values(value_bytes: usize) -> Vec<u8> {
    let value = |at: u64| if at % 7 < 3 { 5 } else { at % 100 / 9 };
    (0..1100).flat_map(|at| value(at).to_le_bytes()[..value_bytes].to_vec()).collect()
}

fn frames() -> Vec<(usize, &'static [u8])> {
    let mut frames = Vec::new();
    let mut rest = FRAMES;
    while let Some((head, after)) = rest.split_first_chunk::<8>() {
        let [value_bytes, length] = [0, 4].map(|at| u32::from_le_bytes(*head[at..].first_chunk().unwrap()) as usize);
        let (frame, after) = after.split_at(length);
        frames.push((value_bytes, frame));
        rest = after;
    }
    frames
}

#[test]
fn blosc_frames_of_every_kind_are_unpacked() {
    let frames = frames();
    assert_eq!(frames.len(), 5 * 3 * 2);
    for (at, (value_bytes, frame)) in frames.into_iter().enumerate() {
        let expected = values(value_bytes);
        assert!(blosc::unpack(frame, expected.len()) == Ok(expected), "frame {at}");
    }
}

#[test]
fn a_blosc_frame_of_snappy_is_unpacked() {
    let expected = values(4);
    let stream = snap::raw::Encoder::new().compress_vec(&expected).unwrap();
    let [length, packed] =
        [expected.len(), stream.len() + 24].map(|length| u32::try_from(length).unwrap().to_le_bytes());
    let stream_length = u32::try_from(stream.len()).unwrap().to_le_bytes();
    let head = [[2, 1, 2 << 5 | 16, 4], length, length, packed, 20_u32.to_le_bytes(), stream_length];
    let frame = [head.concat(), stream].concat();
    assert_eq!(blosc::unpack(&frame, expected.len()), Ok(expected));
}

#[test]
fn a_damaged_blosc_frame_is_an_error_or_other_values_and_no_more() {
    let mut random = ChaCha8Rng::seed_from_u64(3);
    for (value_bytes, frame) in frames() {
        let length = values(value_bytes).len();
        for _ in 0..100 {
            let mut damaged = frame.to_vec();
            let reach = if random.random_range(0..2) == 0 { 40 } else { frame.len() };
            let at = random.random_range(0..reach.min(frame.len()));
            damaged[at] = random.random_range(0..=255);
            damaged.truncate(random.random_range(frame.len() - 3..=frame.len()));
            if let Ok(unpacked) = blosc::unpack(&damaged, length) {
                assert!(unpacked.len() <= length);
            }
        }
    }
}

#[test]
fn a_damaged_chunk_of_any_packing_is_an_error_or_other_values_and_no_more() {
    let mut random = ChaCha8Rng::seed_from_u64(4);
    let plain = values(4);
    let packed = zstd::encode_all(&plain[..], 3).unwrap();
    for packing in [Packing::Zstd, Packing::Gzip, Packing::Zlib, Packing::Lz4, Packing::Crc32c, Packing::Shuffle(3)] {
        for _ in 0..2000 {
            let mut damaged = packed.clone();
            let at = random.random_range(0..damaged.len().min(24));
            damaged[at] = random.random_range(0..=255);
            let unpacked = unpack(&[packing], damaged, plain.len());
            assert!(unpacked.is_err() || unpacked.unwrap().len() <= packed.len().max(plain.len()));
        }
    }
}

fn chunk_codecs(element: Element, shape: &[u64], codecs: &serde_json::Value) -> codecs::ChunkCodecs {
    codecs::version_3(codecs.as_array().unwrap(), element, shape).unwrap().chunk
}

#[test]
fn values_are_put_into_the_order_of_rows_and_of_this_machine() {
    let codecs = json!([{ "name": "transpose", "configuration": { "order": [1, 0] } },
        { "name": "bytes", "configuration": { "endian": "big" } }]);
    let codecs = chunk_codecs(Element::Number(element::Element::U16), &[2, 3], &codecs);
    let stored = [1_u16, 4, 2, 5, 3, 6].iter().flat_map(|value| value.to_be_bytes()).collect();
    let expected = (1..=6_u16).flat_map(u16::to_le_bytes).collect();
    assert_eq!(codecs.decode(stored), Ok(Decoded::Bytes(expected)));
}

#[test]
fn halves_are_widened() {
    let codecs =
        chunk_codecs(Element::Half, &[6], &json!([{ "name": "bytes", "configuration": { "endian": "little" } }]));
    // 1, -2, 65504, the smallest there is, infinity, and no number.
    let stored = [0x3c00_u16, 0xc000, 0x7bff, 0x0001, 0x7c00, 0x7e00].iter().flat_map(|half| half.to_le_bytes());
    let Ok(Decoded::Bytes(bytes)) = codecs.decode(stored.collect()) else { panic!("they are bytes") };
    let numbers: Vec<f32> = bytes.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
    assert_eq!(numbers[..5], [1.0, -2.0, 65504.0, (-24_f32).exp2(), f32::INFINITY]);
    assert!(numbers[5].is_nan());
}

#[test]
fn texts_that_are_cut_short_are_refused() {
    let codecs = chunk_codecs(Element::Text, &[2], &json!([{ "name": "vlen-utf8" }]));
    let stored = [&[2, 0, 0, 0, 1, 0, 0, 0], &b"a"[..], &[2, 0, 0, 0], b"bc"].concat();
    assert_eq!(codecs.decode(stored.clone()), Ok(Decoded::Texts { text: b"abc".to_vec(), ends: vec![1, 3] }));
    for length in 0..stored.len() {
        assert!(codecs.decode(stored[..length].to_vec()).is_err(), "{length} bytes");
    }
    for (at, byte) in (0..stored.len()).flat_map(|at| [0, 1, 3, 127, 255].map(|byte| (at, byte))) {
        let mut damaged = stored.clone();
        damaged[at] = byte;
        drop(codecs.decode(damaged));
    }
}

#[test]
fn chunks_that_are_too_large_are_refused_before_anything_is_read() {
    let bytes = json!([{ "name": "bytes" }]);
    let of_shape = |shape: &[u64]| codecs::version_3(bytes.as_array().unwrap(), Element::Half, shape).err();
    assert_eq!(of_shape(&[1 << 29]), None);
    assert!(of_shape(&[1 << 30]).is_some_and(|error| error.contains("more than 1 GiB")));
    assert!(of_shape(&[1 << 40, 1 << 40]).is_some_and(|error| error.contains("more than 1 GiB")));
    let sharding = |shard: u64| {
        let configuration = json!({ "chunk_shape": [1], "codecs": bytes, "index_codecs": bytes });
        let codecs = json!([{ "name": "sharding_indexed", "configuration": configuration }]);
        codecs::version_3(codecs.as_array().unwrap(), Element::Half, &[shard]).err()
    };
    assert_eq!(sharding(1 << 20), None);
    assert!(sharding(1 << 50).is_some_and(|error| error.contains("more chunks than can be")));
}

#[test]
fn fill_values_are_of_their_data_type() {
    let of = |element, value: serde_json::Value| Fill::of(element, Some(&value));
    let number = |element| Element::Number(element);
    assert_eq!(of(number(element::Element::I8), json!(-1)), Ok(Fill::Bytes(vec![255])));
    assert_eq!(of(number(element::Element::F64), json!(0.5)), Ok(Fill::Bytes(0.5_f64.to_le_bytes().to_vec())));
    assert_eq!(of(number(element::Element::I32), json!(7.0)), Ok(Fill::Bytes(vec![7, 0, 0, 0])));
    assert_eq!(of(Element::Flag, json!(true)), Ok(Fill::Bytes(vec![1])));
    assert_eq!(of(Element::Text, json!(0)), Ok(Fill::Text(String::new())));
    assert!(of(number(element::Element::U8), json!(256)).is_err());
    assert!(of(number(element::Element::F32), json!("many")).is_err());
    let Ok(Fill::Bytes(bytes)) = of(number(element::Element::F32), json!("NaN")) else { panic!("it is a number") };
    assert!(f32::from_le_bytes(*bytes.first_chunk().unwrap()).is_nan());
}
