//! How messages are put into HTTP/2 frames, and read from them: as tonic does, with buffers of other sizes. Each call has
//! a buffer each way for as long as it lasts, so one that says little is to cost little; and what is ready to be sent
//! together goes out together.

use std::marker::PhantomData;

use prost::Message;
use tonic::codec::BufferSettings;
use tonic_prost::{ProstDecoder, ProstEncoder};

/// What a buffer has room for at first. It grows as messages want it to.
const BUFFER_BYTES: usize = 512;
/// From this size on, what was put into the buffer is sent, even if more is ready.
const TOGETHER_BYTES: usize = 64 * 1024;

/// Encodes what one end of a call says, decodes what the other one does.
#[derive(Clone, Copy, Debug)]
pub struct Codec<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for Codec<T, U> {
    fn default() -> Codec<T, U> {
        Codec(PhantomData)
    }
}

impl<T, U> tonic::codec::Codec for Codec<T, U>
where
    T: Message + Send + 'static,
    U: Message + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = ProstEncoder<T>;
    type Decoder = ProstDecoder<U>;

    fn encoder(&mut self) -> ProstEncoder<T> {
        ProstEncoder::new(BufferSettings::new(BUFFER_BYTES, TOGETHER_BYTES))
    }

    fn decoder(&mut self) -> ProstDecoder<U> {
        ProstDecoder::new(BufferSettings::new(BUFFER_BYTES, TOGETHER_BYTES))
    }
}
