INSERT INTO cuts
(
    kpart, koff, after, at
)
