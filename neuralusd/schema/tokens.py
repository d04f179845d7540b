"""NeuralTokensAPI with what a generated class can't have: following `from`."""

from __future__ import annotations

from neuralusd.schema import tokens_api


class NeuralTokensAPI(tokens_api.NeuralTokensAPI):
    __doc__ = tokens_api.NeuralTokensAPI.__doc__

    def resolve(self) -> NeuralTokensAPI:
        """The token set that is really used: this one, or the one that its `from` leads to, over any number of prims.

        Raises:
            ValueError: this instance is not applied, or a `from` leads to no prim, to a prim without this modality, to
                several prims, or round in a circle. Names the prims.
        """
        if not self:
            raise ValueError(f"{self!r} is not applied, so it has no tokens")
        visited = [self]
        while True:
            here = visited[-1]
            targets = [path.GetPrimPath() for path in here.GetFromRel().GetForwardedTargets()]
            if not targets:
                return here
            where = f"<{here.GetFromRel().GetPath()}>"
            if len(targets) > 1:
                listed = ", ".join(f"<{target}>" for target in targets)
                raise ValueError(f"{where} has {len(targets)} targets ({listed}); tokens come from one prim. Keep one.")
            prim = here.GetPrim().GetStage().GetPrimAtPath(targets[0])
            if not prim:
                raise ValueError(f"{where} targets <{targets[0]}>, which is not on the stage")
            there = NeuralTokensAPI(prim, self.GetName())
            if not there:
                has = ", ".join(tokens.GetName() for tokens in NeuralTokensAPI.GetAll(prim)) or "none"
                raise ValueError(
                    f"{where} targets <{prim.GetPath()}>, which has no '{self.GetName()}' tokens (it has: {has}). "
                    "Encode that prim, or target another."
                )
            visited.append(there)
            if prim in [tokens.GetPrim() for tokens in visited[:-1]]:
                circle = " -> ".join(f"<{tokens.GetPrim().GetPath()}>" for tokens in visited)
                raise ValueError(f"'{self.GetName()}' tokens are taken in a circle: {circle}. Remove one `from`.")
