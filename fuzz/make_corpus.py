"""Writes the small files that mutations start from: python make_corpus.py PERTURBINE (needs h5py, numpy and pyarrow)."""

import gzip
import json
import pathlib
import shutil
import struct
import subprocess
import sys
import tempfile

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet

HERE = pathlib.Path(__file__).parent
CORPUS = HERE / "corpus"
KEPT = HERE.parent / "tests" / "kept" / "format-1"
CELLS, GENES = 12, 5


def matrix():
    return np.array([[(c * g) % 4 if (c + g) % 2 else 0 for g in range(GENES)] for c in range(CELLS)], dtype=np.float32)


def csr(dense):
    rows = [np.nonzero(row)[0] for row in dense]
    pointers = np.cumsum([0] + [len(row) for row in rows])
    return np.concatenate([row[cols] for row, cols in zip(dense, rows)]), np.concatenate(rows), pointers


def folder(name):
    path = CORPUS / name
    path.mkdir(parents=True, exist_ok=True)
    return path


def text(group, name, values):
    data = group.create_dataset(name, data=np.array(values, dtype=object), dtype=h5py.string_dtype())
    data.attrs["encoding-type"], data.attrs["encoding-version"] = "string-array", "0.2.0"


def frame(file, name, index, columns):
    group = file.create_group(name)
    group.attrs.update({"encoding-type": "dataframe", "encoding-version": "0.2.0", "_index": "_index"})
    group.attrs["column-order"] = np.array(list(columns), dtype=h5py.string_dtype())
    text(group, "_index", index)
    for column, values in columns.items():
        names = sorted(set(values))
        part = group.create_group(column)
        part.attrs.update({"encoding-type": "categorical", "encoding-version": "0.2.0", "ordered": False})
        text(part, "categories", names)
        part["codes"] = np.array([names.index(value) for value in values], dtype=np.int8)


def h5ad(path, form, libver, **filters):
    with h5py.File(path, "w", libver=libver) as file:
        file.attrs.update({"encoding-type": "anndata", "encoding-version": "0.1.0"})
        dense = matrix()
        if form == "dense":
            file.create_dataset("X", data=dense, **filters)
            file["X"].attrs.update({"encoding-type": "array", "encoding-version": "0.2.0"})
        else:
            data, indices, pointers = csr(dense if form == "csr" else dense.T)
            group = file.create_group("X")
            group.attrs.update({"encoding-type": f"{form}_matrix", "encoding-version": "0.1.0", "shape": dense.shape})
            for name, values in (("data", data), ("indices", indices.astype(np.int32)), ("indptr", pointers)):
                group.create_dataset(name, data=values, **filters)
        frame(file, "obs", [f"c{c}" for c in range(CELLS)], {"condition": ["ctrl", "A", "A+B"] * 4})
        frame(file, "var", [f"g{g}" for g in range(GENES)], {})


def tenx(path):
    data, indices, pointers = csr(matrix())
    with h5py.File(path, "w") as file:
        group = file.create_group("matrix")
        features = group.create_group("features")
        for name, values in (
            ("id", [f"ENSG{g}" for g in range(GENES)]),
            ("name", [f"g{g}" for g in range(GENES)]),
            ("feature_type", ["Gene Expression"] * GENES),
            ("genome", ["GRCh38"] * GENES),
        ):
            features[name] = np.array(values, dtype="S24")
        group["barcodes"] = np.array([f"AAAC{c}-1" for c in range(CELLS)], dtype="S24")
        group["shape"] = np.array([GENES, CELLS], dtype=np.int32)
        for name, values in (("data", data.astype(np.int32)), ("indices", indices), ("indptr", pointers)):
            group.create_dataset(name, data=values, compression="gzip")


def tables():
    dense = matrix()
    wide = pa.table({"condition": ["ctrl", "A", "A+B"] * 4, **{f"g{g}": dense[:, g] for g in range(GENES)}})
    data, indices, pointers = csr(dense)
    part = lambda values: [values[a:b].tolist() for a, b in zip(pointers, pointers[1:])]
    lists = pa.table({"genes": part(indices), "expressions": part(data), "drug": ["ctrl", "A", "A+B"] * 4})
    for name, table in (("wide", wide), ("lists", lists)):
        for codec in ("none", "zstd", "snappy", "gzip", "brotli", "lz4"):
            pa.parquet.write_table(table, folder("parquet") / f"{name}-{codec}.parquet", compression=codec)
        for codec in ("uncompressed", "zstd", "lz4"):
            pa.feather.write_feather(table, folder("arrow") / f"{name}-{codec}.arrow", compression=codec)


def market():
    dense = matrix().astype(int)
    entries = [(g + 1, c + 1, dense[c, g]) for c in range(CELLS) for g in range(GENES) if dense[c, g]]
    lines = "".join(f"{g} {c} {value}\n" for g, c, value in entries)
    head = f"%%MatrixMarket matrix coordinate integer general\n% a comment\n{GENES} {CELLS} {len(entries)}\n"
    (folder("mtx") / "integer.mtx").write_text(head + lines)
    (folder("mtx") / "real.mtx").write_text(head.replace("integer", "real") + lines.replace("\n", ".5e0\n"))
    array = "%%MatrixMarket matrix array real general\n3 4\n" + "".join(f"{n}.0\n" for n in range(12))
    (folder("mtx") / "array.mtx").write_text(array)
    (folder("mtx") / "packed.mtx").write_bytes(gzip.compress((head + lines).encode(), mtime=0))


def of_the_program(program):
    with tempfile.TemporaryDirectory() as home:
        run = lambda line: subprocess.run([program, *line.split()], cwd=home, check=True, capture_output=True)
        shutil.copytree(KEPT / "packed.atlas", f"{home}/packed.atlas")
        run("split packed.atlas --name held --scheme random:0.2")
        shutil.copy(f"{home}/packed.atlas/splits/held.parquet", folder("split") / "held.parquet")
        small = "--set model.n_latent=2 --set model.n_hidden_encoder=3 --set model.n_layers_encoder=1 \
            --set model.n_hidden_decoder=3 --set model.n_layers_decoder=1 --set adversary.n_hidden_adv=2"
        run("simulate --cells 60 --genes 8 --conditions 3 --combos 1 --out s.h5ad")
        run(f"train s.h5ad --out m --epochs 1 {small}")
        shutil.copy(f"{home}/m/model.safetensors", folder("safetensors") / "model.safetensors")
        shutil.copy(f"{home}/m/config.toml", folder("settings") / "all.toml")
        (folder("settings") / "some.toml").write_text('preset = "kang"\n[model]\nn_latent = 64\n[train]\nlr = 3e-4\n')


def main():
    shutil.rmtree(CORPUS, ignore_errors=True)
    for form in ("csr", "csc", "dense"):
        h5ad(folder("h5ad") / f"{form}.h5ad", form, "earliest")
        h5ad(folder("h5ad") / f"{form}-gzip.h5ad", form, "latest", compression="gzip", shuffle=True, chunks=True)
    h5ad(folder("h5ad") / "csr-lzf.h5ad", "csr", "v110", compression="lzf", fletcher32=True, chunks=True)
    tenx(folder("tenx") / "filtered.h5")
    tables()
    market()
    np.save(folder("embeddings") / "two.npy", np.arange(6, dtype=np.float32).reshape(2, 3))
    of_the_program(sys.argv[1])
    packed = KEPT / "packed.atlas"
    shutil.copy(packed / "manifest.json", folder("manifest") / "packed.json")
    blocks = (packed / "blocks.bin").read_bytes() + (packed / "matrix.bin").read_bytes()
    (folder("blocks") / "packed.bin").write_bytes(blocks)
    packed = KEPT.parent / "format-2" / "packed.atlas"
    (folder("packed_blocks") / "packed.bin").write_bytes((packed / "blocks.bin").read_bytes() + (packed / "matrix.bin").read_bytes())
    header = json.dumps({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}).encode()
    small = struct.pack("<Q", len(header)) + header + bytes(8)
    (folder("safetensors") / "one.safetensors").write_bytes(small)


main()
