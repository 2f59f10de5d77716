//! zstd over blocks that end where the caller says.

use zstd::zstd_safe::zstd_sys::ZSTD_EndDirective;
use zstd::zstd_safe::{
    CCtx, CParameter, InBuffer, OutBuffer, ResetDirective, compress_bound, get_error_name,
};

use super::BatchError;

/// zstd's fastest regular level: the differences leave little for a higher one to find.
const LEVEL: i32 = 1;
/// Bytes a block ended early may take beyond its share: its header and what flushing writes.
const BLOCK_OVERHEAD: usize = 16;

/// A context that is kept from one frame to the next.
pub(super) struct Compressor(CCtx<'static>);

impl Compressor {
    pub(super) fn new() -> Result<Self, BatchError> {
        let mut context =
            CCtx::try_create().ok_or_else(|| BatchError::Compression("no memory for zstd".to_owned()))?;
        context.set_parameter(CParameter::CompressionLevel(LEVEL)).map_err(failed)?;
        Ok(Self(context))
    }

    /// Appends one frame holding `raw` to `out`, with a block ending at each of `cuts`, which rise.
    pub(super) fn append(&mut self, raw: &[u8], cuts: &[usize], out: &mut Vec<u8>) -> Result<(), BatchError> {
        self.0.reset(ResetDirective::SessionOnly).map_err(failed)?;
        self.0.set_pledged_src_size(Some(raw.len() as u64)).map_err(failed)?;
        out.reserve_exact(compress_bound(raw.len()) + BLOCK_OVERHEAD * (cuts.len() + 1));
        let start = out.len();
        let mut output = OutBuffer::around_pos(out, start);
        let mut done = 0;
        for &cut in cuts {
            self.step(&raw[done..cut], ZSTD_EndDirective::ZSTD_e_flush, &mut output)?;
            done = cut;
        }
        self.step(&raw[done..], ZSTD_EndDirective::ZSTD_e_end, &mut output)
    }

    fn step(
        &mut self,
        bytes: &[u8],
        directive: ZSTD_EndDirective,
        output: &mut OutBuffer<'_, Vec<u8>>,
    ) -> Result<(), BatchError> {
        let mut input = InBuffer::around(bytes);
        match self.0.compress_stream2(output, &mut input, directive).map_err(failed)? {
            0 => Ok(()),
            left => Err(BatchError::Compression(format!("{left} bytes found no room"))),
        }
    }
}

fn failed(code: usize) -> BatchError {
    BatchError::Compression(get_error_name(code).to_owned())
}
