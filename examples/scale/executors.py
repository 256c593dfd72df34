"""A prediction in shards, on this machine, on Dask or on Ray; or of cells that are in Ray already, a table at a time.

    python3 examples/scale/executors.py here|dask|ray kang.model kang.atlas predictions
    python3 examples/scale/executors.py tables kang.model cells predictions

The model, the atlas and the output are in folders that all workers share. Dask and Ray are connected to as their own settings say.
"""

import sys
from concurrent.futures import ThreadPoolExecutor

import perturbine as pb


def main() -> None:
    where, model, atlas, out = sys.argv[1:]
    if where == "tables":
        import ray

        cells = ray.data.read_parquet(atlas)
        cells.map_batches(pb.Predictor(model, threads=1), batch_format="pyarrow").write_parquet(out)
        return
    job = pb.predict(model, atlas, to="all", output="cells", out=out, threads=1, shards=16)
    if where == "here":
        # The programs are processes of their own: threads are enough to wait for them.
        with ThreadPoolExecutor(2) as executor:
            predicted = job.run(executor, retries=2)
    elif where == "dask":
        from distributed import Client

        with Client() as client:
            predicted = job.run(client, retries=2)
    else:
        import ray

        ray.init()
        predicted = job.run(ray, num_cpus=1, max_retries=5)
    print(predicted)


if __name__ == "__main__":
    main()
