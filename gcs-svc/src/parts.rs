//! A codec for calls whose requests are encoded already, in parts that together are one message: a part that goes to
//! many receivers is encoded once.

use std::marker::PhantomData;

use bytes::{BufMut, Bytes};
use prost::Message;
use tonic::Status;
use tonic::codec::{BufferSettings, Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};

/// Sends messages in parts, and receives messages of type `R`.
#[derive(Debug)]
pub struct Parts<R>(PhantomData<R>);

impl<R> Default for Parts<R> {
    fn default() -> Parts<R> {
        Parts(PhantomData)
    }
}

impl<R: Message + Default + Send + 'static> Codec for Parts<R> {
    type Encode = Vec<Bytes>;
    type Decode = R;
    type Encoder = Parts<R>;
    type Decoder = Parts<R>;

    fn encoder(&mut self) -> Parts<R> {
        Parts::default()
    }

    fn decoder(&mut self) -> Parts<R> {
        Parts::default()
    }
}

impl<R> Encoder for Parts<R> {
    type Item = Vec<Bytes>;
    type Error = Status;

    fn encode(&mut self, parts: Vec<Bytes>, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.reserve(parts.iter().map(Bytes::len).sum());
        parts.into_iter().for_each(|part| buffer.put(part));
        Ok(())
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::default()
    }
}

impl<R: Message + Default> Decoder for Parts<R> {
    type Item = R;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<R>, Status> {
        let decoded = R::decode(buffer).map(Some);
        decoded.map_err(|error| Status::internal(format!("cannot read a response: {error}")))
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::default()
    }
}
