"""A package with one pass.  Once it is installed, ``graphopt passes`` lists it."""

import graphopt as go


@go.register_pass("relu6-to-clip")
class Relu6ToClip(go.RewritePass):
    """hardtanh(x, 0, 6) -> clamp(x, 0, 6)."""

    equivalence = go.Exact()

    def pattern(self, op, x):
        return op.hardtanh(x, 0.0, 6.0)

    def check(self, match):
        return match.ok() if match.x.dtype.is_floating_point else match.fail("x is not floating point")

    def rewrite(self, op, x):
        return op.clamp(x, 0.0, 6.0)
