// A prediction in Nextflow: tasks need no common folder, as each shard travels as an output of its task.
//
//     nextflow run examples/scale/predict.nf --model kang.model --atlas kang.atlas --shards 8

params.model = 'kang.model'
params.atlas = 'kang.atlas'
params.shards = 8

process SHARD {
    cpus 4
    memory '4 GB'
    // Codes that are worth another try: a failing disk, a stop, and those after a signal.
    errorStrategy { task.exitStatus in [74, 75] || task.exitStatus > 128 ? 'retry' : 'terminate' }
    maxRetries 5

    input:
    path model
    path atlas
    val shard

    output:
    path "shard-${shard}"

    script:
    """
    perturbine predict ${model} ${atlas} --to pairs --output cells --threads ${task.cpus} --shard ${shard}/${params.shards} --shard-out shard-${shard}
    """
}

process PUBLISH {
    publishDir '.', mode: 'copy'

    input:
    path shards

    output:
    path 'pairs'

    script:
    """
    perturbine predict --commit pairs --from ${shards}
    """
}

workflow {
    shards = SHARD(file(params.model), file(params.atlas), Channel.of(0..<params.shards))
    PUBLISH(shards.collect())
}
