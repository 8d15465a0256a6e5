"""What TensorFlow Serving's clients ask of a server, row by row: requests, answers, error codes and texts.

Usage: tfs_rows.py CORACLE        started by scripts/check-tfs-clients
"""

import sys

from tensorflow_serving.apis import prediction_service_pb2_grpc

from tfs import batching, calls, lifecycle, records, rest, tensors
from tfs.asking import Rows


def main():
    rows = Rows()
    for part in (tensors, calls, rest, batching, lifecycle, records):
        part.rows_of(sys.argv[1], rows)
    print(f"{rows.count} rows with {prediction_service_pb2_grpc.__file__}")


if __name__ == "__main__":
    main()
