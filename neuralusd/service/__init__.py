"""The compute service: the verbs as jobs over HTTP, so that no DCC imports torch.

`client` is what a DCC uses (standard library only); `server` is what `neuralusd serve` runs; `worker` is the one
process that holds the models.
"""
