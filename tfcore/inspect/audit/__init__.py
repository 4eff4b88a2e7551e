"""What in a model is dead, constant or ignored, and why: `audit.audit` joins `activity`, `gradients` and `causes`
(proven by counterfactuals); `interventions` takes a trained model's parts away one by one.
"""
