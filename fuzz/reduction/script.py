"""The script that shows a finding: one file, the case inline.

The properties that oracles check are promises of graphopt's own code, so the script imports it.  Bugs of
others are written without it, by hand, once they are understood: :mod:`graphopt.fuzz.known`.
"""

from __future__ import annotations

import json

from graphopt.fuzz.findings import Finding

_SCRIPT = '''\
"""{title}

{message}

Exit status: 1 while the problem is there, 0 when it is gone.  What is wrong is a promise of graphopt's own
code, so this imports it and the libraries that it runs on.

{graph}
passes: {passes}
"""

import json
import sys

from graphopt.fuzz.cases import FuzzCase
from graphopt.fuzz.findings import Signature
from graphopt.fuzz.oracles import Subject
from graphopt.fuzz.reduction.oracles import oracle_for

CASE = json.loads(r"""
{case}
""")
SIGNATURE = Signature({signature})


def problems() -> list[str]:
    subject = Subject(FuzzCase.from_dict(CASE))
    oracle = oracle_for(SIGNATURE, {oracle!r})
    found = oracle.check(subject) if oracle.applies(subject) else ()
    return [problem.message for problem in found if problem.signature == SIGNATURE]


if __name__ == "__main__":
    found = problems()
    print(found[0] if found else "gone")
    sys.exit(1 if found else 0)
'''


def script(finding: Finding, oracle: str) -> str:
    """The source of ``repro.py``.

    Args:
        finding: what it shows.
        oracle: name of the oracle that sees it.
    """
    signature = finding.signature
    return _SCRIPT.format(
        title=_docstring(str(signature)),
        message=_docstring(finding.problem.message),
        graph=_docstring(str(finding.case.graph)),
        passes=", ".join(finding.case.passes) or "none",
        case=json.dumps(finding.case.to_dict()),
        signature=", ".join(f"{key}={value!r}" for key, value in vars(signature).items()),
        oracle=oracle,
    )


def _docstring(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"""', "'''")
