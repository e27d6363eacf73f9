-- the next public key, its mac
local known = call('HGET', KEY, 'i')
if not known then return 3 end
local current = current_key(known)
if current == '' then return 2 end
if current == ARGV[1] then return 1 end
call('HSET', KEY, 'n', ARGV[1] .. ARGV[2])
return 0
