cd .; export OMP_NUM_THREADS=1 PYTHONPATH=.; C=$SETS/crops
exec nice -n 19 python benchmarks/soup.py v2/released/stage3.pt $1 $C/faces21 $C/youtube68 $C/helen_afw68 $C/helen_afw68 $C/helen_afw68 $C/helen_afw68 $C/aflw5 $C/utk_pseudo21 $C/mask_ilc-points $C/facemask $C/portraits $C/mask_ilc $C/afw_boxes $C/people_pseudo $C/flickr_pseudo $C/noface $C/synthetic-faceless $C/hard "${@:2}"
