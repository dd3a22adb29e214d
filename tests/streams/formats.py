"""Writes images and labels in each format that `open_data` reads."""

import gzip
import io
import struct

import numpy as np

PARTS_OF_ONE_ARRAY = ("npy", "npy.gz", "idx", "idx.gz")


def picture(pixels):
    """Return the bytes of a PNG file."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def idx_bytes(values):
    """Return the bytes of an IDX file of uint8."""
    return bytes([0, 0, 8, values.ndim]) + struct.pack(f">{values.ndim}I", *values.shape) + values.tobytes()


def frame_of(images, labels):
    import pandas as pd

    rows = images.reshape(len(images), images.shape[1] * images.shape[2])
    frame = pd.DataFrame(rows, columns=[f"pixel{number}" for number in range(rows.shape[1])])
    frame.insert(0, "label", labels)
    return frame


def write_npy(path, images, labels):
    np.save(path, images)
    np.save(path.with_suffix(".labels.npy"), labels)


def write_npy_gz(path, images, labels):
    file = io.BytesIO()
    np.save(file, images)
    path.write_bytes(gzip.compress(file.getvalue()))
    np.save(path.with_suffix("").with_suffix(".labels.npy"), labels)


def write_idx(path, images, labels):
    packed = gzip.compress if path.suffix == ".gz" else bytes
    path.write_bytes(packed(idx_bytes(images)))
    path.with_name(path.name.replace("images", "labels").replace("idx3", "idx1")).write_bytes(packed(idx_bytes(labels)))


def write_npz(path, images, labels):
    np.savez(path, images=images, labels=labels)


def write_packed_npz(path, images, labels):
    np.savez_compressed(path, images=images, labels=labels)


def write_hdf5(path, images, labels):
    import h5py

    with h5py.File(path, "w") as file:
        chunked = {"chunks": (min(16, len(images)), 8, 8), "compression": "gzip"} if len(images) else {}
        file.create_dataset("train/images", data=images, **chunked)
        file["train/labels"] = labels


def write_zarr(path, images, labels, zarr_format=3):
    import zarr

    group = zarr.open_group(path, mode="w", zarr_format=zarr_format)
    group.create_array("images", data=images, chunks=(16, 8, 8))
    group.create_array("labels", data=labels)


def write_zarr_2(path, images, labels):
    write_zarr(path, images, labels, 2)


def write_csv(path, images, labels):
    frame_of(images, labels).to_csv(path, index=False)


def write_csv_gz(path, images, labels):
    path.write_bytes(gzip.compress(frame_of(images, labels).to_csv(index=False).encode()))


def write_parquet(path, images, labels):
    frame_of(images, labels).to_parquet(path, row_group_size=16)


def write_lists(path, images, labels):
    import pyarrow as pa
    from pyarrow import parquet

    pixels = pa.array(list(images.reshape(len(images), -1)), pa.list_(pa.uint8()))
    parquet.write_table(pa.table({"x": pixels, "label": labels}), path, row_group_size=16)


def write_pictures_in_parquet(path, images, labels):
    import pyarrow as pa
    from pyarrow import parquet

    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    pictures = pa.array([{"bytes": picture(each), "path": None} for each in images], kind)
    parquet.write_table(pa.table({"image": pictures, "label": labels.astype(np.int64)}), path, row_group_size=16)


def write_arrow(path, images, labels):
    from pyarrow import feather

    feather.write_feather(frame_of(images, labels), path, compression="lz4", chunksize=16)


def write_svmlight(path, images, labels):
    from sklearn.datasets import dump_svmlight_file

    rows = images.reshape(len(images), -1).astype(float)
    dump_svmlight_file(rows, labels.astype(float), str(path), zero_based=False)


def write_folder(path, images, labels):
    for number, (pixels, label) in enumerate(zip(images, labels, strict=True)):
        folder = path / str(label)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number:05}.png").write_bytes(picture(pixels))


FORMATS = {
    "npy": ("x.npy", write_npy),
    "npy.gz": ("x.npy.gz", write_npy_gz),
    "idx": ("x-images-idx3-ubyte", write_idx),
    "idx.gz": ("x-images-idx3-ubyte.gz", write_idx),
    "npz": ("x.npz", write_npz),
    "packed npz": ("x.npz", write_packed_npz),
    "HDF5": ("x.h5", write_hdf5),
    "Zarr 3": ("x.zarr", write_zarr),
    "Zarr 2": ("x.zarr", write_zarr_2),
    "CSV": ("x.csv", write_csv),
    "CSV.gz": ("x.csv.gz", write_csv_gz),
    "Parquet": ("x.parquet", write_parquet),
    "lists in Parquet": ("x.parquet", write_lists),
    "pictures in Parquet": ("x.parquet", write_pictures_in_parquet),
    "Arrow": ("x.arrow", write_arrow),
    "svmlight": ("x.svm", write_svmlight),
    "folder": ("x", write_folder),
}
"""The name of a file in each format, and the function that writes it."""

FILES = {name: each for name, each in FORMATS.items() if name not in ("Zarr 3", "Zarr 2", "folder")}
"""The formats of a single file."""
