"""Identity: certificates, private keys, the signed roster, signed updates; needs no Flower, gRPC or PyTorch."""
