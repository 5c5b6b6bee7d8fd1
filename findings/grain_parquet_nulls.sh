#!/usr/bin/env bash
# grain 0.2.16 with pyarrow 26.0.1: a missing value in a Parquet file changes its neighbours.
#
# ParquetIterDataset makes a NumPy array of each column of a row group. Where one value is
# missing, pyarrow makes float64 of integers: the missing one is NaN, and the others, of up to
# 64 bits, keep 53. Two documents of the row group then have one id, while other row groups of
# the same file keep all digits, as int64. Nothing says so, and the file's schema says int64.
#
# Command: findings/grain_parquet_nulls.sh
# Prints, and fails if it changes: what is stored, and what is read.
#   stored: 2^60+0 2^60+1 2^60+2 2^60+3 2^60+4 2^60+5
#     int64 2^60+0
#     int64 2^60+1
#     int64 2^60+2
#     int64 2^60+3
#     int64 2^60+4
#     int64 2^60+5
#   stored: 2^60+0 2^60+1 None 2^60+3 2^60+4 2^60+5
#     float64 2^60+0
#     float64 2^60+0
#     float64 NaN
#     int64 2^60+3
#     int64 2^60+4
#     int64 2^60+5
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -qq --disable-pip-version-check grain==0.2.16 \
    array-record==0.8.6 etils==1.15.0 numpy==2.4.6 protobuf==7.36.2 pyarrow==26.0.1
cat >"$folder/nulls.py" <<'PYTHON'
import sys

import grain
import pyarrow as pa
import pyarrow.parquet as pq

FIRST = 2**60


def read(path, ids):
    table = pa.table({"id": pa.array(ids, pa.int64())})
    pq.write_table(table, path, row_group_size=3)
    print("stored:", *(i if i is None else f"2^60+{i - FIRST}" for i in ids))
    for row in grain.experimental.ParquetIterDataset(path):
        value = row["id"]
        text = f"2^60+{int(value) - FIRST}" if value == value else "NaN"
        print(f"  {value.dtype} {text}")


def main(folder):
    read(f"{folder}/whole.parquet", [FIRST + i for i in range(6)])
    read(f"{folder}/missing.parquet", [FIRST, FIRST + 1, None, FIRST + 3, FIRST + 4, FIRST + 5])


if __name__ == "__main__":
    main(sys.argv[1])
PYTHON
seen=$("$folder/venv/bin/python" "$folder/nulls.py" "$folder" 2>"$folder/log") || {
    tail -5 "$folder/log"
    exit 1
}
echo "$seen"
diff <(echo "$seen") - <<'EXPECTED'
stored: 2^60+0 2^60+1 2^60+2 2^60+3 2^60+4 2^60+5
  int64 2^60+0
  int64 2^60+1
  int64 2^60+2
  int64 2^60+3
  int64 2^60+4
  int64 2^60+5
stored: 2^60+0 2^60+1 None 2^60+3 2^60+4 2^60+5
  float64 2^60+0
  float64 2^60+0
  float64 NaN
  int64 2^60+3
  int64 2^60+4
  int64 2^60+5
EXPECTED
