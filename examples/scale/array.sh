#!/bin/bash
# A prediction as a Slurm array, and a job that publishes the result once all shards are complete:
#
#     array=$(sbatch --parsable --array=0-63 examples/scale/array.sh)
#     sbatch --dependency="afterok:$array" --wrap "perturbine predict --commit pairs"
#
# A shard that is stopped or killed may run again; one that is complete is written again, with the same bytes.
#SBATCH --cpus-per-task=4
#SBATCH --mem=4G
#SBATCH --time=2:00:00
#SBATCH --requeue
exec perturbine predict kang.model kang.atlas --to pairs --output cells --out pairs \
    --threads "$SLURM_CPUS_PER_TASK" --shard "$SLURM_ARRAY_TASK_ID/$SLURM_ARRAY_TASK_COUNT"
