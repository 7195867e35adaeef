# detector v2, first phase: constant learning rate, resumable at any time with --resume
cd .; export OMP_NUM_THREADS=1 PYTHONPATH=.; F=$SETS/frames
exec nice -n 19 python -m kpedge train detector --data $F/faces21 --data $F/facemask --data $F/portraits --data $F/noface \
  --data $F/mask_ilc --data $F/afw_boxes --data $F/people_pseudo --data $F/flickr_pseudo --data $F/synthetic \
  --init-from v2/released/detector.pt --out v2/runs/detector --epochs 500 --schedule constant --lr 2e-3 \
  --brighten --roll 140 --roll-peak 2.5 --dark 0.2 --blur 1.3 --faceless-times 1.5 --validate 4 --precision bfloat16 --threads 1 "$@"
