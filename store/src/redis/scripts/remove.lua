local d = load()
if not d then return { 1 } end
redis.call('DEL', KEY, QUEUE, OUTCOMES)
return { 0, d.seat or '', d.epoch }
