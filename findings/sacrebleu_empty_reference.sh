#!/usr/bin/env bash
# sacrebleu 2.6.0: an empty reference, documented as absent, takes BLEU's length penalty away.
#
# With several references a segment may have fewer: "by replacing it with either `None` or
# the empty string `''`", says the README, and the signature becomes nrefs:var. None does
# that. The empty string counts as a reference of no words. For outputs shorter than half of
# the real reference it is the closest in length, so ten outputs of four words each, for
# nine, score 100 for 28.65, and TER, divided by the mean length, is 89 for 56. The signature
# stays nrefs:2. So do empty lines of files, of which None cannot be said.
#
# Command: findings/sacrebleu_empty_reference.sh
# Prints, and fails if it changes:
#   one reference: BLEU 28.65, TER 55.56, nrefs:1
#   and None: BLEU 28.65, TER 55.56, nrefs:1
#   and '': BLEU 100.00, TER 88.89, nrefs:2
#   None for half of them: BLEU 28.65, TER 55.56, nrefs:var
#   '' for half of them: BLEU 88.25, TER 66.67, nrefs:2
#   command line, empty lines for half of them: BLEU 88.25, nrefs:2
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -qq --disable-pip-version-check sacrebleu==2.6.0
cat >"$folder/empty.py" <<'PYTHON'
import json
import pathlib
import subprocess
import sys

from sacrebleu import metrics

folder = pathlib.Path(sys.argv[1])
outputs = ["the cat sat on"] * 10
full = ["the cat sat on the mat near the door"] * 10


def show(what, *others):
    bleu, ter = metrics.BLEU(), metrics.TER()
    scores = [m.corpus_score(outputs, [full, *others]).score for m in (bleu, ter)]
    nrefs = str(bleu.get_signature()).partition("|")[0]
    print(f"{what}: BLEU {scores[0]:.2f}, TER {scores[1]:.2f}, {nrefs}")


show("one reference")
show("and None", [None] * 10)
show("and ''", [""] * 10)
show("None for half of them", [None] * 5 + full[:5])
show("'' for half of them", [""] * 5 + full[:5])
files = {"outputs": outputs, "one": full, "two": [""] * 5 + full[:5]}
for name, lines in files.items():
    (folder / name).write_text("".join(f"{line}\n" for line in lines))
command = [folder / "venv/bin/sacrebleu", folder / "one", folder / "two", "-w", "2"]
said = subprocess.check_output([*command, "-i", folder / "outputs"])
result = json.loads(said)
print(
    f"command line, empty lines for half of them: BLEU {result['score']:.2f}, "
    f"nrefs:{result['nrefs']}"
)
PYTHON
seen=$("$folder/venv/bin/python" "$folder/empty.py" "$folder" 2>"$folder/log") || {
    tail -5 "$folder/log"
    exit 1
}
echo "$seen"
diff <(echo "$seen") - <<'EXPECTED'
one reference: BLEU 28.65, TER 55.56, nrefs:1
and None: BLEU 28.65, TER 55.56, nrefs:1
and '': BLEU 100.00, TER 88.89, nrefs:2
None for half of them: BLEU 28.65, TER 55.56, nrefs:var
'' for half of them: BLEU 88.25, TER 66.67, nrefs:2
command line, empty lines for half of them: BLEU 88.25, nrefs:2
EXPECTED
