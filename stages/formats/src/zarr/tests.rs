//! Chunks packed by numcodecs, chunks that were then damaged, and arrays of every order and type.
#![allow(clippy::disallowed_methods, reason = "tests write files and start threads of their own")]
#![allow(clippy::unwrap_used, reason = "a test fails where it panics")]

use arrays::place::ObjectPlace;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

use super::{
    array::Array,
    metadata::{MetadataResult, NodeMetadata},
    packing::{Packing, watched},
};
use crate::anndata::group::UnwrittenParts;

/// Frames of numcodecs: blosclz, lz4, lz4hc, zlib and zstd, each without shuffling and with bytes or bits
/// shuffled, for values of 4 bytes in blocks of 1,024 bytes, and for values of 8 bytes in one block. Each is
/// preceded by the number of bytes per value and its own length, as u32.
const FRAMES: &[u8] = include_bytes!("tests/frames.bin");

/// The content of every frame: 1,100 integers, some of them repeated.
fn values(value_bytes: usize) -> Vec<u8> {
    let value = |at: u64| if at % 7 < 3 { 5 } else { at % 100 / 9 };
    (0..1100).flat_map(|at| value(at).to_le_bytes()[..value_bytes].to_vec()).collect()
}

fn frames() -> Vec<(usize, &'static [u8])> {
    let mut rest = FRAMES;
    let next = || {
        let (head, after) = rest.split_first_chunk::<8>()?;
        let [value_bytes, length] = [0, 4].map(|at| u32::from_le_bytes(*head[at..].first_chunk().unwrap()) as usize);
        let (frame, after) = after.split_at(length);
        rest = after;
        Some((value_bytes, frame))
    };
    std::iter::from_fn(next).collect()
}

fn unpack(packing: Packing, stored: &[u8], most: usize) -> MetadataResult<Vec<u8>> {
    packing.undo(stored.into(), most as u64).map(Into::into)
}

#[test]
fn blosc_frames_of_every_kind_are_unpacked() {
    let frames = frames();
    assert_eq!(frames.len(), 5 * 3 * 2);
    for (at, (value_bytes, frame)) in frames.into_iter().enumerate() {
        let expected = values(value_bytes);
        assert!(unpack(Packing::Blosc, frame, expected.len()) == Ok(expected), "frame {at}");
    }
}

#[test]
fn a_damaged_chunk_of_any_packing_is_an_error_or_other_values_and_no_more() {
    let mut random = ChaCha8Rng::seed_from_u64(3);
    let packed = zstd::encode_all(&values(4)[..], 3).unwrap();
    let others = [Packing::Zstd, Packing::Gzip, Packing::Zlib, Packing::Lz4, Packing::Texts];
    let others = others.into_iter().flat_map(|packing| std::iter::repeat_n((packing, &packed[..]), 20));
    for (packing, stored) in frames().into_iter().map(|(_, frame)| (Packing::Blosc, frame)).chain(others) {
        for _ in 0..100 {
            let mut damaged = stored.to_vec();
            let reach = if random.random_range(0..2) == 0 { 40 } else { stored.len() };
            damaged[random.random_range(0..reach.min(stored.len()))] = random.random_range(0..=255);
            damaged.truncate(random.random_range(stored.len() - 3..=stored.len()));
            assert!(unpack(packing, &damaged, 8800).map_or(0, |unpacked| unpacked.len()) <= 8800);
        }
    }
}

#[test]
fn a_chunk_that_unpacks_to_more_than_it_may_is_refused() {
    let zeros = vec![0; 1 << 20];
    let [zstd, lz4] = [zstd::encode_all(&zeros[..], 1).unwrap(), lz4_flex::block::compress_prepend_size(&zeros)];
    for (packing, long) in [(Packing::Zstd, zstd), (Packing::Lz4, lz4)] {
        assert!(unpack(packing, &long, 1 << 20).is_ok_and(|bytes| bytes == zeros), "{packing:?}");
        let refused = unpack(packing, &long, 1000).expect_err("it is too long");
        assert!(refused.contains("more than the 1000 bytes"), "{refused}");
    }
    // No memory is allocated for claimed sizes: 2^62 bytes in a zstd frame, 4 GiB in others.
    let frame = [0x28, 0xb5, 0x2f, 0xfd, 0xe0, 0, 0, 0, 0, 0, 0, 0, 0x40, 1, 0, 0];
    assert!(unpack(Packing::Zstd, &frame, 1000).is_err());
    for packing in [Packing::Lz4, Packing::Blosc] {
        assert!(unpack(packing, &[0xff; 20], 1000).is_err_and(|refused| refused.contains("more than the 1000 bytes")));
    }
}

#[test]
fn texts_that_are_cut_short_are_refused() {
    let stored = [&[2, 0, 0, 0, 1, 0, 0, 0], &b"a"[..], &[2, 0, 0, 0], b"bc"].concat();
    assert_eq!(unpack(Packing::Texts, &stored, 1000), Ok(stored.clone()));
    for length in 0..stored.len() {
        assert!(unpack(Packing::Texts, &stored[..length], 1000).is_err(), "{length} bytes");
    }
}

#[test]
fn a_codec_that_takes_what_a_chunk_claims_is_not_left_in_place() {
    let inner = json!([{ "name": "bytes" }, { "name": "numcodecs.zlib" }, { "name": "crc32c" }]);
    let shards = json!([{ "name": "sharding_indexed", "configuration": { "chunk_shape": [1], "codecs": inner } }]);
    let watched = watched(shards.as_array().unwrap(), "name").unwrap();
    let inner = watched[0].pointer("/configuration/codecs").unwrap();
    assert_eq!(inner, &json!([{ "name": "bytes" }, { "name": "perturbine.zlib" }, { "name": "crc32c" }]));
}

/// Reads rows of an array with this shape and type and a single chunk, which may be left out.
fn read(
    shape: &[u64],
    data_type: &str,
    fill: &Value,
    codecs: &Value,
    chunk: impl IntoIterator<Item = u8>,
) -> MetadataResult<Vec<f32>> {
    let folder = tempfile::tempdir().unwrap();
    let metadata = json!({ "zarr_format": 3, "node_type": "array", "shape": shape, "data_type": data_type,
        "chunk_grid": { "name": "regular", "configuration": { "chunk_shape": shape } },
        "chunk_key_encoding": { "name": "v2" }, "fill_value": fill, "codecs": codecs });
    std::fs::write(folder.path().join("zarr.json"), metadata.to_string()).unwrap();
    let chunk: Vec<u8> = chunk.into_iter().collect();
    if !chunk.is_empty() {
        std::fs::write(folder.path().join(vec!["0"; shape.len()].join(".")), chunk).unwrap();
    }
    let place = ObjectPlace::root(folder.path());
    let Ok(Some(NodeMetadata::Array(metadata, _))) = NodeMetadata::read(folder.path(), &place) else {
        panic!("an array")
    };
    let array = Array::open(folder.path().into(), place, *metadata, UnwrittenParts::Filled)?;
    array.vector(0..usize::try_from(shape[0]).unwrap()).map_err(|error| error.to_string())
}

#[test]
fn values_are_put_into_the_order_of_rows_and_of_this_machine() {
    let codecs = json!([{ "name": "transpose", "configuration": { "order": [1, 0] } },
        { "name": "bytes", "configuration": { "endian": "big" } }]);
    let stored = [1_u16, 4, 2, 5, 3, 6].into_iter().flat_map(u16::to_be_bytes);
    assert_eq!(read(&[2, 3], "uint16", &json!(0), &codecs, stored).unwrap(), [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
}

#[test]
fn halves_are_widened_and_what_was_left_out_has_the_fill_value() {
    let little = json!([{ "name": "bytes", "configuration": { "endian": "little" } }]);
    // 1, -2, 65504, the smallest positive number, infinity, and NaN.
    let stored = [0x3c00_u16, 0xc000, 0x7bff, 0x0001, 0x7c00, 0x7e00].into_iter().flat_map(u16::to_le_bytes);
    let numbers = read(&[6], "float16", &json!(0), &little, stored).unwrap();
    assert_eq!(numbers[..5], [1.0, -2.0, 65504.0, (-24_f32).exp2(), f32::INFINITY]);
    assert!(numbers[5].is_nan());
    assert_eq!(read(&[2], "int8", &json!(-1), &little, []).unwrap(), [-1.0, -1.0]);
    assert!(read(&[1], "float32", &json!("NaN"), &little, []).unwrap()[0].is_nan());
    assert!(read(&[1], "uint8", &json!(256), &little, []).is_err());
}

#[test]
fn chunks_that_are_too_large_are_refused_before_anything_is_read() {
    let bytes = json!([{ "name": "bytes" }]);
    let error_for = |shape: &[u64], codecs: &Value| read(shape, "uint8", &json!(0), codecs, []).unwrap_err();
    assert!(error_for(&[1 << 31], &bytes).contains("more than 1 GiB"));
    assert!(error_for(&[1 << 40, 1 << 40], &bytes).contains("more than 1 GiB"));
    let sharding = json!([{ "name": "sharding_indexed",
        "configuration": { "chunk_shape": [1], "codecs": bytes,
            "index_codecs": [{ "name": "bytes", "configuration": { "endian": "little" } }] } }]);
    assert!(error_for(&[1 << 50], &sharding).contains("with too many chunks"));
}
