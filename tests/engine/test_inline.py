"""The inline engine passes the conformance suite of engines."""

from hygge.engine.inline import InlineEngine
from hygge.testing import EngineContract


class TestInlineEngine(EngineContract):
    def engine(self):
        return InlineEngine()
