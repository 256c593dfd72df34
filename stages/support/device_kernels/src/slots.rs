//! Moves a batch from the slot where the host's copy put it to the place from which the kernels of a step
//! read it (`cuda/slots.cuh`).

use tch::Tensor;
use torch::launch::{Address, arguments};

use super::{run_numbers, shape};

/// Bytes that a thread copies at once: `Sixteen` in the source.
const AT_ONCE: i64 = 16;

arguments! {
    TakeBatchArguments<'a>, "take_batch" {
        slots: Address<'a>,
        place: Address<'a>,
        taken: Address<'a>,
        count: i64,
    }
}

/// Copies the next of two slots, `[2, bytes]`, to a place, `[bytes]`, a multiple of 16 bytes. `taken`, `[2]`,
/// int32, holds the number of earlier calls, whose lowest bit selects the slot, and zero.
pub fn take_batch(slots: &Tensor, place: &Tensor, taken: &Tensor) {
    let [count, bytes] = shape(slots);
    assert!(
        count == 2 && bytes % AT_ONCE == 0 && place.size() == [bytes] && taken.size() == [2],
        "a batch is taken from two slots of its size, in pieces of {AT_ONCE} bytes"
    );
    let arguments = TakeBatchArguments {
        slots: Address::from_tensor(slots),
        place: Address::from_tensor_mut(place),
        taken: Address::from_tensor_mut(taken),
        count: bytes / AT_ONCE,
    };
    run_numbers(&arguments, place, bytes / AT_ONCE);
}
