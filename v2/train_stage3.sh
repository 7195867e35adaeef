# stage 3 v2, first phase: constant learning rate, resumable at any time with --resume
cd .; export OMP_NUM_THREADS=1 PYTHONPATH=.; C=$SETS/crops
exec nice -n 19 python -m kpedge train stage3 --data $C/faces21 --also $C/youtube68 --also $C/mtfl5 \
  --also $C/helen_afw68 --also $C/aflw5 --also $C/utk_pseudo21 --also $C/mask_ilc-points --also $C/facemask --also $C/portraits \
  --also $C/mask_ilc --also $C/afw_boxes --also $C/people_pseudo --also $C/flickr_pseudo --also $C/noface --also $C/synthetic \
  --also $C/synthetic-faceless --also $C/hard --init-from v2/released/stage3.pt --out v2/runs/stage3 \
  --epochs 2000 --schedule constant --lr 2e-3 --others 2.5 --roll 65 --roll-peak 3 --scale 0.15 --shift 0.12 --peak 6 --dark 0.15 \
  --worn 0.15 --occlusion 0.25 --blur 1.5 --lowres 0.25 --precision bfloat16 --threads 1 "$@"
