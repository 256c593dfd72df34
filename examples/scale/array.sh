#!/bin/bash
# A prediction as a Slurm array, and a job that publishes the result once all shards are complete:
#
#     array=$(sbatch --parsable --array=0-63 examples/scale/array.sh)
#     sbatch --dependency="afterok:$array" --wrap "perturbine predict --commit pairs"
#
# Two minutes before the time limit, or where a job with more priority takes the node, the shard stops and is queued again.
# A shard that is complete ends at once.
#SBATCH --cpus-per-task=4
#SBATCH --mem=4G
#SBATCH --time=2:00:00
#SBATCH --signal=B:USR1@120
#SBATCH --requeue
trap 'kill -USR1 $!' USR1 TERM
perturbine predict kang.model kang.atlas --to pairs --output cells --out pairs \
    --threads "$SLURM_CPUS_PER_TASK" --shard "$SLURM_ARRAY_TASK_ID/$SLURM_ARRAY_TASK_COUNT" &
# A signal ends the first wait, before the shard has stopped.
while wait $!; code=$?; kill -0 $! 2>/dev/null; do :; done
if [ "$code" = 75 ]; then
    exec scontrol requeue "${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID"
fi
exit "$code"
