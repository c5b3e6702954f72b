-- Look at the store without writing a table: which life of it this is, who owns the tables, and whether the owner lives.
--
-- KEYS  1 epoch (hash)  2 generation (string)
-- ARGV  1 the looking writer's epoch, 0 when it has none
-- Returns {generation or '', the owner's epoch or '0', its signs of life or '0'}. The owner's own look is such a sign:
-- a count and not a time, because two writers' clocks need not agree.

local owner = redis.call('HMGET', KEYS[1], 'epoch', 'signs')
local signs = owner[2] or '0'
if owner[1] and owner[1] == ARGV[1] then
  signs = tostring(redis.call('HINCRBY', KEYS[1], 'signs', 1))
end
return {redis.call('GET', KEYS[2]) or '', owner[1] or '0', signs}
