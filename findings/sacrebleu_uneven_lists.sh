#!/usr/bin/env bash
# sacrebleu 2.6.0: outputs without a reference, and references without an output, count as
# nothing, without an error.
#
# `corpus_score(hypotheses, references)` takes a list of lists of references, one per
# hypothesis. A decode that stopped early, or a reference file that was cut, makes the lists
# differ in length: BLEU, chrF and TER pair what there is and score the pairs alone. The
# command of the same package exits with an error for such files. A flat list of references,
# which is one level short, is read as one list of letters per reference: output i is scored
# against the i-th letters, and perfect outputs have BLEU 0, chrF below 20 and TER 1,200.
#
# Command: findings/sacrebleu_uneven_lists.sh
# Prints, and fails if it changes:
#   20 outputs, 10 of them wrong, 20 references: BLEU 50.60, chrF2 55.09, TER 50.00
#   20 outputs, 10 of them wrong, 10 references: BLEU 100.00, chrF2 100.00, TER 0.00
#   10 outputs, 20 references: BLEU 100.00, chrF2 100.00, TER 0.00
#   20 perfect outputs, a flat list of references: BLEU 0.00, chrF2 15.84, TER 1200.00
#   command line, 10 lines and 20: exit 1
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -qq --disable-pip-version-check sacrebleu==2.6.0
cat >"$folder/uneven.py" <<'PYTHON'
import pathlib
import subprocess
import sys

from sacrebleu import metrics

folder = pathlib.Path(sys.argv[1])
half = ["the cat sat on the mat near the door"] * 10
full = [*half, *["a dog slept in the sun all day long"] * 10]
wrong = [*half, *["one two three four five six seven eight"] * 10]


def show(what, outputs, references):
    kinds = (metrics.BLEU(), metrics.CHRF(), metrics.TER())
    scores = [m.corpus_score(outputs, references) for m in kinds]
    print(f"{what}: {', '.join(f'{s.name} {s.score:.2f}' for s in scores)}")


show("20 outputs, 10 of them wrong, 20 references", wrong, [full])
show("20 outputs, 10 of them wrong, 10 references", wrong, [half])
show("10 outputs, 20 references", half, [full])
show("20 perfect outputs, a flat list of references", full, full)
for name, lines in {"outputs": half, "references": full}.items():
    (folder / name).write_text("".join(f"{line}\n" for line in lines))
command = [folder / "venv/bin/sacrebleu", folder / "references", "-i", folder / "outputs"]
run = subprocess.run(command, capture_output=True, text=True)
print(f"command line, 10 lines and 20: exit {run.returncode}")
PYTHON
seen=$("$folder/venv/bin/python" "$folder/uneven.py" "$folder" 2>"$folder/log") || {
    tail -5 "$folder/log"
    exit 1
}
echo "$seen"
diff <(echo "$seen") - <<'EXPECTED'
20 outputs, 10 of them wrong, 20 references: BLEU 50.60, chrF2 55.09, TER 50.00
20 outputs, 10 of them wrong, 10 references: BLEU 100.00, chrF2 100.00, TER 0.00
10 outputs, 20 references: BLEU 100.00, chrF2 100.00, TER 0.00
20 perfect outputs, a flat list of references: BLEU 0.00, chrF2 15.84, TER 1200.00
command line, 10 lines and 20: exit 1
EXPECTED
