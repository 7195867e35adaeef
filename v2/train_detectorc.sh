# detector v2, third phase: from epoch 4 of the second, without rendered frames, a fast fall of the learning rate
cd .; export OMP_NUM_THREADS=1 PYTHONPATH=.; F=$SETS/frames
exec nice -n 19 python -m kpedge train detector --data $F/faces21 --data $F/facemask --data $F/portraits --data $F/noface \
  --data $F/mask_ilc --data $F/afw_boxes --data $F/people_pseudo --data $F/flickr_pseudo \
  --init-from v2/runs/detectorb/last.pt --out v2/runs/detectorc --epochs 2 --warmup 40 --schedule cosine --lr 1e-3 \
  --brighten --roll 140 --roll-peak 2.5 --dark 0.2 --blur 1.3 --faceless-times 1.5 --validate 2 --precision bfloat16 --threads 1 "$@"
