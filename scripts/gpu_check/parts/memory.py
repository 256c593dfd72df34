"""What the device held beyond its context, and what `explain` said before."""

from ..training import Run


def memory(check, budget):
    results = check.results
    if not check.machine.gpu:
        results.skip("device memory", "there is no GPU")
        return
    if ("float32", 128) not in check.runs:
        with results.attempt("device memory of training, batch 128"):
            run = Run(check.machine, check.small, "memory-128", 128, epochs=1)
            check.runs["float32", 128] = run.train(budget)
    for (precision, batch), run in check.runs.items():
        name = f"device memory of training, {precision}, batch {batch}"
        with results.attempt(name):
            held = run.device_bytes()
            results.figure(name, round(held / 1e6), "MB", "training memory" if (precision, batch) == ("float32", 128) else None)
            predicted = run.explain(budget)
            results.figure(f"explain against measured, {precision}, batch {batch}", round(100 * abs(predicted / held - 1), 1), "%",
                           f"explain {batch}" if precision == "float32" else None, explained=predicted, measured=held)
    with results.attempt("device memory of inference"):
        run = check.runs.get(("float32", 128)) or check.model()
        report = check.machine.perturbine("predict", run.folder, run.atlas.path, "--to", "observed", "--cells-per-condition", 2000,
                                          "--device", check.machine.device, "--out", check.machine.data / "memory-means", budget=budget)
        results.figure("device memory of inference, means, 2,000 source cells of each cell type",
                       round(report["peak_device_bytes"] / 1e6), "MB", "inference memory")
