"""How well shared weights rank architectures: measured beside the truth, as a search goes (`monitor`) and afterwards.

Rankings are compared in `rank_statistics`, choices in `bias`; `scores` measures architectures and trains those whose truth no
table knows; `report` and `picture` show what came out.
"""
