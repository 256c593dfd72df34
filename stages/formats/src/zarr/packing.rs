//! Codecs that unpack chunks without using more memory than the chunk should have. They replace the
//! library's, which allocate what a damaged chunk claims.

use std::{
    borrow::Cow,
    io::Read,
    sync::{Arc, Once},
};

use flate2::read::{MultiGzDecoder, ZlibDecoder};
use serde_json::{Value, json};
use zarrs::{
    array::{
        ArrayBytesRaw, BytesRepresentation, BytesToBytesCodecTraits, Codec, CodecError, CodecMetadataOptions,
        CodecOptions, CodecTraits, RecommendedConcurrency,
        codec::{
            BloscCodec, BloscCompressionLevel, BloscCompressor, BloscShuffleMode,
            api::{
                CodecRuntimePluginV2, CodecRuntimePluginV3, PartialDecoderCapability, PartialEncoderCapability,
                register_codec_v2, register_codec_v3,
            },
        },
    },
    metadata::Configuration,
    plugin::{ExtensionName, ZarrVersion},
};

/// Maximum unpacked size of a chunk that can be read.
pub(super) const MOST_CHUNK_BYTES: u64 = 1 << 30;
/// Prefix of the names of these codecs, which makes them unique.
const PREFIX: &str = "perturbine.";
/// The library's codecs that use no more memory than a chunk should have.
const TRUSTED: [&str; 4] = ["bytes", "transpose", "shuffle", "crc32c"];
/// Bytes of the length that precedes a string or an LZ4 block.
const LENGTH_BYTES: usize = 4;

/// One step of packing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Packing {
    Gzip,
    Zlib,
    Zstd,
    Lz4,
    Blosc,
    /// Not a compression: checks that texts of any length stay within their chunk.
    Texts,
}

impl Packing {
    const ALL: [Self; 6] = [Self::Gzip, Self::Zlib, Self::Zstd, Self::Lz4, Self::Blosc, Self::Texts];

    fn word(self) -> String {
        format!("{self:?}").to_lowercase()
    }

    /// Decompresses the bytes, to at most `most` of them.
    ///
    /// # Errors
    /// Bytes that the codec can't have produced, or that unpack to more; the error describes the problem.
    pub(super) fn undo<'a>(self, stored: Cow<'a, [u8]>, most: u64) -> Result<Cow<'a, [u8]>, String> {
        let damaged = || format!("it is not {} data", self.word());
        let too_long = || format!("it unpacks to more than the {most} bytes that it may have");
        let read = |packed: &mut dyn Read| {
            let mut out = Vec::new();
            packed.take(most + 1).read_to_end(&mut out).map_err(|error| format!("{} ({error})", damaged()))?;
            if most < out.len() as u64 { Err(too_long()) } else { Ok(Cow::Owned(out)) }
        };
        match self {
            Self::Gzip => read(&mut MultiGzDecoder::new(&*stored)),
            Self::Zlib => read(&mut ZlibDecoder::new(&*stored)),
            Self::Zstd => read(&mut zstd::Decoder::with_buffer(&*stored).map_err(|_| damaged())?),
            Self::Lz4 => {
                let (length, block) = stored.split_first_chunk::<LENGTH_BYTES>().ok_or_else(damaged)?;
                let length = u32::from_le_bytes(*length);
                if most < length.into() {
                    return Err(too_long());
                }
                let out = lz4_flex::block::decompress(block, length as usize);
                out.map(Cow::Owned).map_err(|_| damaged())
            }
            Self::Blosc => {
                // The second four bytes of a frame's header give the decompressed size.
                let length = stored.get(4..).and_then(<[u8]>::first_chunk).ok_or_else(damaged)?;
                if most < u32::from_le_bytes(*length).into() {
                    return Err(too_long());
                }
                let any = BloscCompressionLevel::try_from(0).map_err(|_| damaged())?;
                let codec = BloscCodec::new(BloscCompressor::Zstd, any, None, BloscShuffleMode::NoShuffle, None);
                let codec = codec.map_err(|error| error.to_string())?;
                let out = codec.decode(stored, &BytesRepresentation::BoundedSize(most), &CodecOptions::default());
                out.map_err(|_| damaged())
            }
            Self::Texts => {
                if has_texts(&stored) {
                    Ok(stored)
                } else {
                    Err("it holds strings that are cut short".into())
                }
            }
        }
    }
}

/// Whether there are as many texts as the first number claims, each preceded by its length.
fn has_texts(bytes: &[u8]) -> bool {
    let Some((count, mut rest)) = bytes.split_first_chunk::<LENGTH_BYTES>() else { return false };
    (0..u32::from_le_bytes(*count)).all(|_| {
        let text = rest.split_first_chunk::<LENGTH_BYTES>();
        let text = text.and_then(|(length, after)| after.get(u32::from_le_bytes(*length) as usize..));
        text.map(|after| rest = after).is_some()
    })
}

/// Replaces the library's codecs, which are listed under `key`, by those in this file.
///
/// # Errors
/// A codec that is not supported; the error describes the problem.
pub(super) fn watched(codecs: &[Value], key: &str) -> Result<Vec<Value>, String> {
    static REGISTERED: Once = Once::new();
    REGISTERED.call_once(register);
    let mut out = Vec::new();
    for codec in codecs {
        let name = codec.as_str().or_else(|| codec.get(key)?.as_str()).ok_or("has a codec without a name")?;
        let name = name.strip_prefix("numcodecs.").unwrap_or(name);
        let ours = |packing: Packing| json!({ key: format!("{PREFIX}{}", packing.word()) });
        match name {
            "sharding_indexed" => {
                let mut codec = codec.clone();
                let within = codec.pointer_mut("/configuration/codecs").ok_or("has shards without codecs")?;
                *within = watched(within.as_array().map(Vec::as_slice).unwrap_or_default(), "name")?.into();
                out.push(codec);
            }
            "vlen-utf8" | "vlen-bytes" => out.extend([codec.clone(), ours(Packing::Texts)]),
            trusted if TRUSTED.contains(&trusted) => out.push(codec.clone()),
            name => match Packing::ALL.into_iter().find(|packing| packing.word() == name) {
                Some(packing) => out.push(ours(packing)),
                None => return Err(format!("has the codec `{name}`, which is not supported")),
            },
        }
    }
    Ok(out)
}

/// Registers these codecs with the library.
fn register() {
    for packing in Packing::ALL {
        let is_it = move |name: &str| name.strip_prefix(PREFIX) == Some(&packing.word());
        let make = move || Ok(Codec::BytesToBytes(Arc::new(packing)));
        register_codec_v2(CodecRuntimePluginV2::new(is_it, move |_| make()));
        register_codec_v3(CodecRuntimePluginV3::new(is_it, move |_| make()));
    }
}

impl ExtensionName for Packing {
    fn name(&self, _: ZarrVersion) -> Option<Cow<'static, str>> {
        Some(format!("{PREFIX}{}", self.word()).into())
    }
}

impl CodecTraits for Packing {
    fn as_any(&self) -> &dyn std::any::Any {
        self
    }

    fn configuration(&self, _: ZarrVersion, _: &CodecMetadataOptions) -> Option<Configuration> {
        Some(Configuration::default())
    }

    fn partial_decoder_capability(&self) -> PartialDecoderCapability {
        PartialDecoderCapability { partial_read: false, partial_decode: false }
    }

    fn partial_encoder_capability(&self) -> PartialEncoderCapability {
        PartialEncoderCapability { partial_encode: false }
    }
}

impl BytesToBytesCodecTraits for Packing {
    fn into_dyn(self: Arc<Self>) -> Arc<dyn BytesToBytesCodecTraits> {
        self
    }

    fn recommended_concurrency(&self, _: &BytesRepresentation) -> Result<RecommendedConcurrency, CodecError> {
        Ok(RecommendedConcurrency::new_maximum(1))
    }

    /// Slightly more than the unpacked size; otherwise packing was useless.
    fn encoded_representation(&self, decoded: &BytesRepresentation) -> BytesRepresentation {
        decoded.size().map_or(BytesRepresentation::UnboundedSize, |size| {
            BytesRepresentation::BoundedSize(size.saturating_add(size / 4 + (1 << 16)))
        })
    }

    fn encode<'a>(&self, _: ArrayBytesRaw<'a>, _: &CodecOptions) -> Result<ArrayBytesRaw<'a>, CodecError> {
        Err(CodecError::Other("stores are read only".into()))
    }

    fn decode<'a>(
        &self,
        stored: ArrayBytesRaw<'a>,
        decoded: &BytesRepresentation,
        _: &CodecOptions,
    ) -> Result<ArrayBytesRaw<'a>, CodecError> {
        let most = decoded.size().map_or(MOST_CHUNK_BYTES, |size| size.min(MOST_CHUNK_BYTES + (1 << 29)));
        self.undo(stored, most).map_err(CodecError::Other)
    }
}
