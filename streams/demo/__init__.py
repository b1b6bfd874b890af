"""A brand that does not exist, with everything it would publish in an hour: what the demo runs on, and what must come of it.

`people` are its members, `plots` what each of them does, `mistakes` what its systems get wrong, `shop` puts all of it in
the order in which it reaches the topics. `oracle` reads the same messages and says, by rules of its own, how they end.
Nobody in it is real: addresses are of reserved domains, and telephone numbers begin with a digit that is given to none.
"""
