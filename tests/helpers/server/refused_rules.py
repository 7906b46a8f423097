"""Keys of [server] that mean nothing together, and what the error says of them: key, value and remedy."""

MEANINGLESS = [
    ({"hold": 3}, ("[server] hold = 3", 'mode = "both" trains it', 'remove hold, or set mode = "b"')),
    ({"hold": 3, "mode": "b", "a": "fresh"}, ("[server] hold = 3", 'a = "fresh" draws', 'or set a = "warm"')),
    ({"hold": 3, "algorithm": "fedlin", "mode": "b", "a": "gaussian"}, ("[server] hold = 3", 'a = "gaussian" draws')),
    ({"hold": 3, "algorithm": "hetlora"}, ("[server] hold = 3", '"hetlora" has no such setting', "remove hold")),
    ({"optimizer": "adam"}, ("[server] optimizer = 'adam'", '"increments" has no such setting', '"fedsgd"')),
    ({"betas": [0.9, 0.99]}, ("[server] betas = (0.9, 0.99)", '"increments" has no such setting', "remove betas")),
    ({"rank_shared": 8, "algorithm": "fedlin", "mode": "b"}, ("[server] rank_shared = 8", '"fedlin" has no such')),
    (
        {"algorithm": "fedsgd", "optimizer": "sgd", "betas": [0.9, 0.99]},
        ("betas are Adam's", 'optimizer = "sgd"', "remove betas"),
    ),
    ({"algorithm": "fedsgd", "proximal": 0.1}, ("[server] proximal = 0.1", "remove it")),
]
ILL_FORMED = [
    ({"hold": 0}, ("[server] hold = 0", "greater than or equal to 1")),
    ({"hold": "nver"}, ("[server] hold = 'nver'", "'auto' or 'never'")),
    ({"algorithm": "fedsgd", "optimizer": "adamw"}, ("[server] optimizer = 'adamw'", "'adam' or 'sgd'")),
    ({"algorithm": "fedsgd", "betas": [0.9]}, ("[server] betas",)),
    ({"algorithm": "fedsgd", "betas": [0.9, 1.0]}, ("[server] betas = 1.0", "less than 1")),
    ({"algorithm": "fedsgd", "rank_shared": 0}, ("[server] rank_shared = 0", "greater than or equal to 1")),
]
