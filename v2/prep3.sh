export OMP_NUM_THREADS=1 PYTHONPATH=.
K="nice -n 19 python -m kpedge"
S=$SETS/src; cd $SETS
T3="iBUG 300-W annotations, research only"; TM="MTFL, research use"; TU="UTKFace, non-commercial research"; TI="web photos gathered for a course, no licence stated: research use"; TK="public Kaggle set"; TP="FFHQ / MaskedFace-Net, CC BY-NC-SA 4.0"; TA="AFW, research use"; TE="ImageNet sample and BSDS500, research use"; TF="Flickr8k, research use"
$K data prepare $S/helen_afw68 --out crops/helen_afw68 --scheme faces21 --negatives 0 --test 0 --validation 0.12 --name helen_afw68 --terms "$T3"
$K data prepare $S/aflw5 --out crops/aflw5 --format label --scheme faces21 --negatives 0 --test 0 --validation 0.12 --name aflw5 --terms "$TM"
$K data prepare $S/utk_pseudo21 --out crops/utk_pseudo21 --negatives 0 --test 0 --validation 0.12 --name utk_pseudo21 --terms "$TU"
$K data prepare $S/mask_ilc-points --out crops/mask_ilc-points --negatives 0 --test 0 --validation 0.12 --name mask_ilc-points --terms "$TI"
$K data prepare $S/facemask-faces --out crops/facemask --pointless --format label --scheme faces21 --negatives 0 --test 0.2 --name facemask --terms "$TK"
$K data prepare $S/portraits-faces --out crops/portraits --pointless --format label --scheme faces21 --negatives 0 --test 0.1 --name portraits --terms "$TP"
$K data prepare $S/mask_ilc-faces --out crops/mask_ilc --pointless --format label --scheme faces21 --negatives 0 --test 0 --validation 0.12 --name mask_ilc --terms "$TI"
$K data prepare $S/afw_boxes-faces --out crops/afw_boxes --pointless --format label --scheme faces21 --negatives 0 --test 0 --validation 0.2 --name afw_boxes --terms "$TA"
$K data prepare $S/people_pseudo-faces --out crops/people_pseudo --pointless --format label --scheme faces21 --negatives 0 --test 0 --validation 0.2 --name people_pseudo --terms "$TE"
$K data prepare $S/flickr_pseudo-faces --out crops/flickr_pseudo --pointless --format label --scheme faces21 --negatives 0 --test 0 --validation 0.15 --name flickr_pseudo --terms "$TF"
$K data prepare synthetic-photos --out crops/synthetic --negatives 2 --test 0 --validation 0.05 --name synthetic --terms "rendered, free"
$K data prepare synthetic-photos/faceless --out crops/synthetic-faceless --format faceless --test 0 --name synthetic-faceless --terms "rendered, free"
nice -n 19 python ./benchmarks/hard_negatives.py ./export/detector.onnx crops/hard --of $DATA/noface crops/noface --of synthetic-photos/faceless crops/synthetic-faceless
