"""The shape of rows between Home and Store: which columns, under which names, of which types.

`settings` is what the user writes, `bound` what becomes of it where the Home's columns are known.
"""
