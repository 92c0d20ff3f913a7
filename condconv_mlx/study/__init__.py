"""The paper's questions at small scale: many short training runs, paired by seed, and what they come to.

`plan` says which runs a question takes, `one` does a run in a process of its own, `runner` all that are not yet done,
`statistics` and `results` reckon with them, and `page` shows them.
"""

# In the order of the page.
QUESTIONS = ("static", "experts", "start", "routing", "routers", "regularisation", "longer", "modes")
