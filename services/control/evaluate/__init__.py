"""`eval`: pure evaluation of cases, one file a kind: `evaluate(case)` fills every computable `expected…` member."""
