"""The forecast: how likely is it that a running clock will be breached, from what became of tickets like it.

| file | holds |
|---|---|
| `features` | what is looked at of a ticket and its clock at an instant, as a few named numbers; the same in history and live |
| `history` | past tickets walked fact by fact, looked at whenever the live service would have looked |
| `training` | a logistic regression over these, calibrated on the newest part of the past (scikit-learn, for the command only) |
| `model` | what a published model says: plain weights and a calibration curve, no library |
| `live`, `store` | the current model in the service, and the probabilities it keeps in `sla.forecast` |

A probability is a reading at an instant, not a fact: it is kept beside the clocks, never in them, and decides no deadline. It is
looked at anew with every event of the ticket and whenever another tenth of the target has passed.
"""
