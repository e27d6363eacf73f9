local known = redis.call('HGET', KEYS[1], 'i')
if not known then return 2 end
if string.byte(known, 1) == 0 then return 0 end
redis.call('HSET', KEYS[1], 'i', '\0' .. string.sub(known, 2))
return 1
