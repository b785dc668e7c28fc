"""What runs is recorded twice: as programs have it, and as kernels do.

``torch.export``'s training IR keeps composite operators whole (``aten.conv2d``,
``aten.scaled_dot_product_attention``).  Those are seen before autograd; what remains once they are
decomposed is seen below it.  One recorder listens at both places.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch._ops import OpOverload

from graphopt._torch import dispatch_observed
from graphopt.fuzz.traces.record import NotRecorded, Record, normalised, outputs_of

MAX_RECORDS = 4000
"""Of one recording: a loop over elements would fill the memory."""


class Recorder:
    """Collects the calls made while :meth:`recording`.

    Attributes:
        records: in the order of first appearance, each once.
    """

    def __init__(self) -> None:
        self.records: dict[Record, None] = {}

    @contextmanager
    def recording(self, source: str) -> Iterator[None]:
        """Records every ATen call made inside, failed ones as invalid, under the name of a source."""
        limit = len(self.records) + MAX_RECORDS

        def observe(overload: OpOverload, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> None:
            if overload.namespace != "aten" or len(self.records) >= limit:
                return
            failed = isinstance(result, Exception)
            try:
                arguments = normalised(overload, args, kwargs)
                outputs = () if failed else outputs_of(result)
            except NotRecorded:
                return
            self.records.setdefault(Record(str(overload), arguments, outputs, source, valid=not failed))

        with dispatch_observed(observe):
            yield
