"""What the paper's claims find in a folder of results."""

from gbt_t5x.studies.paper import claims, measured


def findings(folder):
    results = measured.Results(folder)
    return [claim.finding(results) for claim in claims.CLAIMS]


def sentences(finding):
    return [evidence.sentence for evidence in finding.evidence]
