// All custom kernels. NVRTC compiles them for devices; they also compile as C++ for the host (see platform.h).

#include "platform.h"

#include "adam.cuh"
#include "expected.cuh"
#include "guess.cuh"
#include "latent.cuh"
#include "layer.cuh"
#include "losses.cuh"
#include "negative_binomial.cuh"
#include "penalty.cuh"
#include "slots.cuh"
#include "sparse.cuh"

KERNEL_UNTYPED(take_batch, TakeBatch)
KERNEL(unpack, Unpack)
KERNEL(batch_norm_forward, BatchNormForward)
KERNEL(batch_norm_backward, BatchNormBackward)
KERNEL(layer_norm_forward, LayerNormForward)
KERNEL(layer_norm_backward, LayerNormBackward)
KERNEL(cut_forward, CutForward)
KERNEL(cut_backward, CutBackward)
KERNEL(column_sums, ColumnSums)
KERNEL(negative_binomial_genes, NegativeBinomialGenes)
KERNEL(negative_binomial_rows, NegativeBinomialRows)
KERNEL(negative_binomial_sums, NegativeBinomialSums)
KERNEL(batch_norm_down, BatchNormDown)
KERNEL(batch_norm_up, BatchNormUp)
KERNEL(layer_norm_down, LayerNormDown)
KERNEL(layer_norm_up, LayerNormUp)
KERNEL(cut_through, CutThrough)
KERNEL(penalty_value, PenaltyValue)
KERNEL(add_row, AddRow)
KERNEL(sum_of_parts, SumOfParts)
KERNEL(guess_rows, GuessRows)
KERNEL(guess_sums, GuessSums)
KERNEL(latent_forward, LatentForward)
KERNEL(mixed_backward, MixedBackward)
KERNEL(latent_backward, LatentBackward)
KERNEL(basal_backward, BasalBackward)
KERNEL(square_sums, SquareSums)
KERNEL(adam_step, AdamStep)
KERNEL(add_losses, AddLosses)
KERNEL(softmax_rows, SoftmaxRows)
KERNEL(expected_sums, ExpectedSums)
