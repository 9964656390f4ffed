"""The reference model as an equivalent one made for runtimes.

Every activation stays `N C T H W`, every convolution is a Conv3d, and the exact identities are folded
into the weights. Only leaves are replaced; the composite modules of the reference run them unchanged.
"""
