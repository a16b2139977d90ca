"""`hygge verify`: is what the store holds what the source would give now?

in_database.py  asks the databases first, where they can tell that both sides are the same
sides.py    reads the source through the flow's own steps, and the store through a Home
forms.py    brings the values of both sides into one form, whatever their exact types
hashes.py   the hash of each value, and of each row and its key; sums do not know an order
compare.py  finds rows that are lost, doubled, changed, or only in the store
verdict.py  says what that means in the flow's mode: what is wrong, and what has only moved on
"""

from hygge.coordinator.verify.verdict import Verdict, verify_flow

__all__ = ["Verdict", "verify_flow"]
